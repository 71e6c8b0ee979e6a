"""Plain values: the JSON form of any value, for dead letters. Never raises."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Any

import msgspec
from pydantic import BaseModel

from drakkar_flow.model.codec import encode

__all__ = ["Plain", "cut", "text_of", "text_or_base64", "utf8"]

MAX_TEXT_BYTES = 8 * 1024
"""Bytes of an error, a stack trace or the repr of a value at most."""
_MAX_DEPTH = 50
_MAX_VALUES = 100_000
_MAX_NAMED = 20
_MAX_INT = 2**63


class Plain:
    """Turns values into JSON values, and lists in `replaced` the places where only a repr was left.

    Bytes that are no text become `{"base64": ...}`, which can be turned back. Values without a JSON form are replaced
    by their repr: objects, NaN, integers of more than 64 bits, values nested too deeply or in themselves.

    >>> plain = Plain()
    >>> plain.of({"at": [1, 1j]}, "data"), plain.replaced
    ({'at': [1, '1j']}, ['data.at.1'])
    """

    def __init__(self) -> None:
        self.replaced: list[str] = []
        self.circular = False
        """True if a value contains itself."""
        self._left = _MAX_VALUES
        self._within: set[int] = set()

    def of(self, value: Any, place: str = "") -> Any:
        """Return the plain form of the value at `place`."""
        try:
            self._left -= 1
            if value is None or isinstance(value, (str, bool, int, float)):
                return self._scalar(value, place)
            if id(value) in self._within:
                self.circular = True
            if self.circular or self._left < 0 or len(self._within) >= _MAX_DEPTH:
                return self._repr(value, place)
            self._within.add(id(value))
            try:
                return self._composed(value, place)
            finally:
                self._within.discard(id(value))
        except Exception:  # an exception of a user's object when it is inspected
            return self._repr(value, place)

    def _scalar(self, value: Any, place: str) -> Any:
        if isinstance(value, str):
            text = utf8(value).decode()
            if text != value:
                self._note(place)
            return text
        if (isinstance(value, float) and not isfinite(value)) or (isinstance(value, int) and abs(value) >= _MAX_INT):
            return self._repr(value, place)
        return value

    def _composed(self, value: Any, place: str) -> Any:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return text_or_base64(bytes(value))
        if isinstance(value, os.PathLike):
            return self.of(os.fspath(value), place)
        if isinstance(value, BaseModel):
            return self._model(value, place)
        if isinstance(value, msgspec.Struct):
            return self._items({name: getattr(value, name) for name in value.__struct_fields__}, place)
        if is_dataclass(value) and not isinstance(value, type):
            return self._items({each.name: getattr(value, each.name) for each in fields(value)}, place)
        if isinstance(value, Mapping):
            return self._items(value, place)
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.of(each, _at(place, number)) for number, each in enumerate(value)]
        return self.of(msgspec.to_builtins(value), place)

    def _items(self, items: Mapping[Any, Any], place: str) -> dict[str, Any]:
        return {text_of(name): self.of(each, _at(place, text_of(name))) for name, each in items.items()}

    def _model(self, model: BaseModel, place: str) -> Any:
        try:
            return msgspec.json.decode(encode(model))
        except ValueError:  # bytes that are not UTF-8, or fields without a JSON form
            return self.of(model.model_dump(warnings=False), place)

    def _repr(self, value: Any, place: str) -> str:
        self._note(place)
        return cut(_repr_of(value)).decode()

    def _note(self, place: str) -> None:
        if len(self.replaced) < _MAX_NAMED:
            self.replaced.append(cut(place, 100).decode())


def text_of(value: Any) -> str:
    """Return a value as a text that can be encoded: text or bytes as they are, other values as their text or repr."""
    if isinstance(value, str):
        return utf8(value).decode()
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    try:
        return utf8(str(value)).decode()
    except Exception:
        return utf8(_repr_of(value)).decode()


def text_or_base64(raw: bytes, limit: int | None = None) -> str | dict[str, str]:
    """Return text as it is, other bytes as base64; at most `limit` bytes, of a text whole characters."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw[:limit]).decode()}
    return text if limit is None else cut(text, limit).decode()


def cut(value: Any, limit: int = MAX_TEXT_BYTES) -> bytes:
    """Return UTF-8 of at most `limit` bytes that ends with a whole character."""
    return utf8(text_of(value))[:limit].decode(errors="ignore").encode()


def utf8(text: str) -> bytes:
    """Return a text as UTF-8, surrogates escaped."""
    return text.encode(errors="backslashreplace")


def _at(place: str, name: object) -> str:
    return f"{place}.{name}" if place else str(name)


def _repr_of(value: Any) -> str:
    try:
        return repr(value)
    except Exception as exc:
        return f"<{type(value).__name__} whose repr raises {type(exc).__name__}>"
