"""Overrides: single values given as text, by an environment variable or by `--set` on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from drakkar_flow.config.loading.layers import Items, Layer, from_plain
from drakkar_flow.config.loading.legacy_keys import Moved, legacy_rule
from drakkar_flow.config.schema import ROOT, Path, Type, is_container, is_list, type_at
from drakkar_flow.errors import Problem

__all__ = ["override_layer", "read_assignments"]

_INDEX: Final = re.compile(r"\d{1,6}", re.ASCII)
_BRACKETS: Final = re.compile(r"\[(\d+)\]", re.ASCII)


def read_assignments(
    assignments: Sequence[str], root: Type = ROOT, below: Mapping[str, Any] | None = None
) -> list[Layer]:
    """A layer for each `section.key=value`, in the order they are to be merged.

    Items of lists are `kafka.source_topics[0]`; values are read as those of variables are. Below `client_config` the
    rest of the key is one key, for Kafka's properties have dots.
    """
    layers = []
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        path = tuple(_BRACKETS.sub(r".\1", key).split("."))
        if "client_config" in path:
            whole = path.index("client_config") + 1
            path = (*path[:whole], ".".join(path[whole:])) if path[whole:] else path
        if equals and all(path):
            layers.append(override_layer(path, text, f"--set {key}", root, below))
        else:
            wrong = Problem(f"--set {key[:60]}", "sets no key", "write it like --set kafka.brokers=localhost:9092")
            layers.append(Layer(problems=[wrong]))
    return layers


def override_layer(
    path: tuple[str, ...], text: str, origin: str, root: Type = ROOT, below: Mapping[str, Any] | None = None
) -> Layer:
    """The layer of one value; a section, mapping or list is given as JSON.

    A number in the path is the index of an item where a list belongs, or, in settings of no type, where the values
    `below` have one.
    """
    place = _placed(path, root, below or {})
    value, wrong = _value(_type_at(place, root), text)
    for key in reversed(place):
        value = Items({key: value}) if isinstance(key, int) else {key: value}
    layer = from_plain(value, origin)
    layer.origins = {place[:n]: origin for n in range(1, len(place) + 1)}
    layer.named.add(place)
    if wrong:
        layer.blame(place, wrong, 'write it like {"key": "value"} or ["item"]')
    return layer


def _placed(path: tuple[str, ...], root: Type, below: Mapping[str, Any]) -> Path:
    place: Path = ()
    inner: Any = below
    for segment in path:
        kind = _type_at(place, root)
        holds_items = is_list(kind) or (kind in (None, Any) and isinstance(inner, list))
        key = int(segment) if holds_items and _INDEX.fullmatch(segment) else segment
        inner = _inside(inner, key)
        place = (*place, key)
    return place


def _inside(value: Any, key: str | int) -> Any:
    if isinstance(value, list):
        return value[key] if isinstance(key, int) and key < len(value) else None
    return value.get(key) if isinstance(value, Mapping) else None


def _type_at(path: Path, root: Type) -> Type:
    """The type of what stands at a path, also of a key that has moved."""
    rule = legacy_rule(path)
    return type_at(tuple(rule.to.split(".")) if isinstance(rule, Moved) else path, root)


def _value(kind: Type, text: str) -> tuple[Any, str]:
    """The value, and what is wrong with it."""
    if not is_container(kind):
        return text, ""
    try:
        return (json.loads(text), "") if text.strip() else (None, "")
    except (ValueError, RecursionError):
        return None, "a section, mapping or list must be given as JSON"
