"""Elastic Common Schema (ECS): log lines with its field names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["ECS_VERSION", "to_ecs"]

ECS_VERSION = "8.17.0"

_NAMES = {
    "timestamp": "@timestamp",
    "level": "log.level",
    "logger": "log.logger",
    "service_name": "service.name",
    "service_version": "service.version",
    "worker_id": "service.node.name",
    "reason": "event.reason",
    "error": "error.message",
    "error_type": "error.type",
    "exception": "error.stack_trace",
    "program": "process.executable",
    "pid": "process.pid",
    "child_pid": "process.pid",
    "exit_code": "process.exit_code",
}
_LABELS = frozenset(
    {"executor_name", "consumer_group", "cluster_name", "flow", "hook", "task_id", "sink_type", "sink_name"}
)
_KAFKA = frozenset({"topic", "partition", "offset", "key"})


def to_ecs(line: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the fields of a line; dotted names stay flat, as Elastic's own logging libraries write them.

    The event is the `message` and the `event.action`, a duration is in nanoseconds as `event.duration`.
    Names go to `labels`, which ECS has for keywords. Fields without an ECS name keep their type in two separate
    namespaces: the place of a record in `kafka`, with the names of Filebeat's Kafka input, all others in `drakkar`.

    >>> line = {"timestamp": "2026-01-02T03:04:05Z", "level": "info", "event": "drain_finished", "duration_s": 0.5}
    >>> for name, value in to_ecs(line | {"unfinished": 0}).items():
    ...     print(name, value)
    @timestamp 2026-01-02T03:04:05Z
    log.level info
    message drain_finished
    ecs.version 8.17.0
    event.action drain_finished
    event.duration 500000000
    drakkar.unfinished 0
    """
    event = line.get("event")
    fields: dict[str, Any] = {"@timestamp": line.get("timestamp"), "log.level": line.get("level"), "message": event}
    fields |= {"ecs.version": ECS_VERSION, "event.action": event}
    for name, value in line.items():
        if name == "duration_s" and isinstance(value, int | float):
            fields["event.duration"] = round(value * 1e9)
        elif name in _NAMES:
            fields[_NAMES[name]] = value
        elif name != "event":
            space = "labels" if name in _LABELS else "kafka" if name in _KAFKA else "drakkar"
            fields[f"{space}.{name}"] = value
    return fields
