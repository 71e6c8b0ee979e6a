"""Rendering of a flow: Mermaid flowchart and JSON-able data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

from drakkar_flow.graph.nodes import KafkaSource, Limits, Node, Persistent, Route, SinkRef, Subprocess, Window
from drakkar_flow.graph.time_windows import TimeWindows

__all__ = ["to_json", "to_mermaid"]

Steps = list[tuple[str, Node]]


def to_json(name: str, source: KafkaSource, steps: Steps) -> dict[str, Any]:
    """Describe a flow: its name, its source, and each step with its id, kind and settings."""
    return {
        "name": name,
        "source": {"kind": "kafka", "topics": list(source.topics)},
        "steps": [{"id": step, "kind": node.kind, **_settings(node)} for step, node in steps],
    }


def to_mermaid(name: str, source: KafkaSource, steps: Steps) -> str:
    """Draw a flow as a Mermaid flowchart, acknowledgement included."""
    topics = ", ".join(source.topics) or "configured topics"
    lines = ["---", f"title: {name}", "---", "flowchart LR", f'  source[("{topics}")]']
    previous = "source"
    for step, node in steps:
        node_id = step.replace("-", "_")
        lines.append(f'  {node_id}["{step}"]')
        lines.append(f"  {previous} --> {node_id}")
        previous = node_id
        if isinstance(node, Route):
            lines.extend(_sink_lines(node_id, node))
    return "\n".join(lines) + "\n"


def _sink_lines(route: str, node: Route) -> Iterator[str]:
    sinks = [sink.id for sink in node.sinks] or ["configured sinks"]
    for sink in [*sinks, "dlq"]:
        sink_id = "sink_" + sink.replace("-", "_").replace(" ", "_")
        arrow = "-. errors .->" if sink == "dlq" else "-->"
        yield f'  {sink_id}[("{sink}")]'
        yield f"  {route} {arrow} {sink_id}"
        yield f"  {sink_id} --> track"
    yield "  track --> commit"


def _settings(node: Node) -> dict[str, Any]:
    settings = {}
    for item in fields(node):
        value = getattr(node, item.name)
        if item.name != "name" and value is not None and not (item.name == "named" and not value):
            settings[item.name] = _plain(value)
    return settings


def _given(value: Window | Subprocess | Persistent | Limits) -> dict[str, Any]:
    """The given settings; a flow without limits has none."""
    given = {item.name: getattr(value, item.name) for item in fields(value)}
    plain = {name: _given(inner) if isinstance(inner, Limits) else inner for name, inner in given.items()}
    return {name: inner for name, inner in plain.items() if inner not in (None, "") and (name != "limits" or inner)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, SinkRef):
        return {"kind": value.kind, "name": value.name, **value.settings}
    if isinstance(value, TimeWindows):
        return {"kind": type(value).__name__.lower(), **{name: _plain(inner) for name, inner in asdict(value).items()}}
    if isinstance(value, Window | Subprocess | Persistent | Limits):
        return _given(value)
    if isinstance(value, str | int | float | bool):
        return value
    return getattr(value, "__qualname__", None) or repr(value)
