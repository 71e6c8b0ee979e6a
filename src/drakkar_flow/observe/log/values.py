"""Plain data for log lines: text, numbers, lists and mappings, without secrets and without Python's reprs. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import Any

import msgspec
from pydantic import BaseModel

from drakkar_flow.kernel.redaction import MASK, is_sensitive

__all__ = ["plain_line", "plain_value"]

_MAX_DEPTH = 8
_MAX_ITEMS = 1000
_NAMES = frozenset({"level", "timestamp", "logger", "topic", "partition", "sink_type", "sink_name", "flow", "kind"})
_NAMES |= {"stage", "hook", "state", "records", "partitions", "error_type"}
"""Fields that hold names of the library and the configuration: not redacted, as a secret may equal a name."""

Redact = Callable[[str], str]


def plain_line(line: Mapping[str, Any], redact: Redact) -> dict[str, Any]:
    """Return a line's fields as plain data, redacted.

    >>> plain_line({"event": "x", "password": "y", "path": ValueError("no"), "sizes": (1, float("inf"))}, str)
    {'event': 'x', 'password': '********', 'path': 'no', 'sizes': [1, 'inf']}
    """
    return {name: _named(name, value, str if name in _NAMES else redact, 0) for name, value in line.items()}


def plain_value(value: Any, text: Redact, depth: int = 0) -> Any:
    """Return a value as JSON-compatible data; `text` is applied to every text in it.

    Values with the name of a secret are masked.

    >>> plain_value([b"a", int, {1: {"b"}, "token": "c"}, None], str)
    ['a', 'int', {'1': ['b'], 'token': '********'}, None]
    """
    if value is None or (isinstance(value, bool | int) and not isinstance(value, Enum)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Enum):
        return plain_value(value.value, text, depth + 1)
    fields = _fields(value)
    if depth > _MAX_DEPTH and (fields is not None or isinstance(value, list | tuple | AbstractSet)):
        return "..."
    if fields is not None:
        items = list(fields.items())[:_MAX_ITEMS]
        return {text(str(name)): _named(str(name), inner, text, depth + 1) for name, inner in items}
    if isinstance(value, list | tuple | AbstractSet):
        return [plain_value(inner, text, depth + 1) for inner in list(value)[:_MAX_ITEMS]]
    return text(_text(value))


def _named(name: str, value: Any, text: Redact, depth: int) -> Any:
    is_secret = isinstance(value, str | bytes) and is_sensitive(name)
    return MASK if is_secret else plain_value(value, text, depth)


def _fields(value: Any) -> Mapping[Any, Any] | None:
    """Return the fields of a value with named fields, None for any other."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, BaseModel):
        return dict(value)
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, type) or callable(value):
        return str(getattr(value, "__qualname__", type(value).__qualname__))
    if isinstance(value, BaseException):
        return str(value) or type(value).__name__
    text = str(value)
    return type(value).__qualname__ if text == object.__repr__(value) else text
