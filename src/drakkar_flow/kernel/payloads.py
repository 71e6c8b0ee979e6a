"""Payloads as one pickle. Pure.

Plain pydantic models of one class are written as their fields: pydantic's pickling costs twice as much.
"""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple

from pydantic import BaseModel

__all__ = ["read_payloads", "write_payloads"]

_set = object.__setattr__


class _Models(NamedTuple):
    """Plain models of one class: their fields, and the names of the set ones where not all are."""

    kind: type[BaseModel]
    fields: list[dict[str, Any]]
    given: list[set[str] | None]


def write_payloads(payloads: list[Any]) -> bytes:
    """Write payloads.

    Raises:
        Exception: one can't be pickled; whatever its type raises.

    >>> read_payloads(write_payloads([{"n": 1}, "text"]))
    [{'n': 1}, 'text']
    """
    kind = type(payloads[0])
    if not _is_plain(kind) or set(map(type, payloads)) != {kind}:
        return pickle.dumps(payloads, 5)
    count = len(kind.model_fields)
    given = [None if len(names := payload.__pydantic_fields_set__) == count else names for payload in payloads]
    return pickle.dumps(_Models(kind, [payload.__dict__ for payload in payloads], given), 5)


def read_payloads(written: bytes) -> list[Any]:
    """Return the payloads of `write_payloads`.

    Raises:
        Exception: one can't be read; whatever its type raises.
    """
    read = pickle.loads(written)  # noqa: S301 - Bytewax unpickles what peers send, too
    return _models(read) if type(read) is _Models else read


def _is_plain(kind: Any) -> bool:
    """Return True for a pydantic model whose state is its fields alone."""
    return (
        isinstance(kind, type)
        and issubclass(kind, BaseModel)
        and kind.__getstate__ is BaseModel.__getstate__
        and kind.__setstate__ is BaseModel.__setstate__
        and kind.__reduce__ is object.__reduce__
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.model_config.get("extra") != "allow"
        and not kind.__private_attributes__
    )


def _models(read: _Models) -> list[BaseModel]:
    kind, models = read.kind, []
    for fields, given in zip(read.fields, read.given, strict=True):
        model = kind.__new__(kind)
        _set(model, "__dict__", fields)
        _set(model, "__pydantic_fields_set__", set(fields) if given is None else given)
        _set(model, "__pydantic_extra__", None)
        _set(model, "__pydantic_private__", None)
        models.append(model)
    return models
