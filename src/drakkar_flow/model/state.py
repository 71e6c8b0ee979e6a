"""Keyed state: the view that hooks get, keys as text, and the codec of typed values.

A stored value begins with a header: format of the body, time written in ms (wall clock), and a fingerprint of the model
it was written from. An old value is recognised by its fingerprint.
"""

from __future__ import annotations

import inspect
import json
import zlib
from base64 import b64encode
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import is_dataclass
from struct import Struct
from struct import error as StructError  # noqa: N812 - a class
from typing import Any, Final, Protocol, get_type_hints

import msgspec
from pydantic import BaseModel

from drakkar_flow.errors import StateError

__all__ = [
    "CURRENT_STATE",
    "HANDLER_STEP",
    "HANDLER_TIMERS",
    "KEEP",
    "KeyedState",
    "StateCodec",
    "UserKey",
    "key_of",
    "key_text",
    "plain_value",
    "window_key_text",
    "window_of",
]

UserKey = str | int | bytes
"""Key of a value of state. Text, numbers and bytes that look alike are different keys."""

HANDLER_STEP: Final = "handler"
"""Step under whose id the state of a handler is kept."""

HANDLER_TIMERS: Final = "handler.timer"
"""Step under whose id the timers of a handler are kept."""

KEEP: Final = object()
"""Output of a library step that leaves a record's payload as it is."""

_HEADER = Struct(">BQI")
_BODY = _HEADER.size
_model_of = Struct(">B8xI").unpack_from
"""Returns the format and the fingerprint in a header."""

_MSGPACK, _JSON = 1, 2
_SCALARS = (bool, int, float, str, bytes)
"""Types of which every value that can be written can be read."""

_NOTES = ("title", "description")


class KeyedState(Protocol):
    """Keyed state of one partition, as a hook reads and writes it."""

    def get(self, key: UserKey, default: Any = None) -> Any:
        """Return the newest value of a key."""
        ...

    def __getitem__(self, key: UserKey) -> Any: ...
    def __setitem__(self, key: UserKey, value: Any) -> None: ...
    def __delitem__(self, key: UserKey) -> None: ...
    def __contains__(self, key: object) -> bool: ...

    def set_timer(self, key: UserKey, delay_s: float | None) -> None:
        """Call `on_timer(key)` in `delay_s` seconds, in place of an earlier timer of the key; None cancels it."""
        ...


CURRENT_STATE: Final[ContextVar[KeyedState | None]] = ContextVar("drakkar_flow_state", default=None)
"""State of the hook that runs; None outside of hooks."""


def key_text(key: object) -> str:
    r"""Return a user's key as text: the text itself, or a number or bytes after a mark that no two keys share.

    >>> key_text("7"), key_text(7), key_text(b"7")
    ('7', '\x00i7', '\x00b37')

    Raises:
        TypeError: the key is neither text, a whole number nor bytes.
        ValueError: the text can't be written as UTF-8.
    """
    if type(key) is int:  # common, and so cheaper
        return f"\0i{key}"
    if isinstance(key, str):
        if not key.isascii():
            key.encode()
        return key if key[:1] != "\0" else f"\0s{key}"
    if isinstance(key, int):
        return f"\0i{int(key)}"
    if isinstance(key, bytes):
        return f"\0b{key.hex()}"
    raise TypeError(f"a key of state is a str, an int or bytes, not {'None' if key is None else type(key).__name__}")


def key_of(text: str) -> UserKey:
    """Return the user's key of a text of `key_text`; a window is its key, start and end in s.

    >>> [key_of(key_text(key)) for key in ("anna", "", -7, b"raw")]
    ['anna', '', -7, b'raw']
    >>> key_of(window_key_text("anna", 0, 1_500))
    'anna 0..1.5'
    """
    if not text.startswith("\0"):
        return text
    mark, rest = text[1:2], text[2:]
    if mark == "w":
        return _described_window(rest)
    if mark == "i":
        return int(rest)
    return bytes.fromhex(rest) if mark == "b" else rest


def window_key_text(text: str, start_ms: int, end_ms: int) -> str:
    """Return the key of a window of event time: that of its values, start and end."""
    return f"\0w{start_ms}:{end_ms}:{text}"


def window_of(text: str) -> tuple[str, int, int]:
    r"""Return the arguments of `window_key_text`.

    >>> window_of(window_key_text(key_text(7), 0, 60_000))
    ('\x00i7', 0, 60000)
    """
    start_ms, end_ms, key = text[2:].split(":", 2)
    return key, int(start_ms), int(end_ms)


def _described_window(rest: str) -> str:
    key, *ends = window_of(f"\0w{rest}")
    start, end = (ms // 1000 if ms % 1000 == 0 else ms / 1000 for ms in ends)
    return f"{key_of(key)!s} {start}..{end}"


class StateCodec:
    """Values of one step's state as bytes and back.

    `model` is a pydantic model (stored as JSON), or a type that msgspec can write: a struct, a dataclass, a builtin
    type such as `int` or `dict[str, int]` (stored as msgpack). Values expire `ttl_s` seconds after they were written.
    `migrate` turns a value of another version of the model into the present one. It gets plain data (dicts, lists,
    numbers), or an instance of the older model that its parameter is annotated with. Without it, an older value is read
    as the present model, which works as long as only fields with defaults were added.

    >>> codec = StateCodec(dict[str, int], ttl_s=60)
    >>> stored = codec.encode({"n": 3}, now_ms=1_000)
    >>> codec.decode(stored), codec.is_expired(stored, now_ms=61_000), codec.is_expired(stored, now_ms=61_001)
    ({'n': 3}, False, True)

    Raises:
        TypeError: values of the model can't be stored.
    """

    def __init__(self, model: Any, *, ttl_s: float | None = None, migrate: Callable[[Any], Any] | None = None) -> None:
        self.model = model
        self.ttl_ms = None if ttl_s is None else max(1, round(ttl_s * 1000))
        self._migrate = migrate
        self._older = _older_model(migrate) if migrate is not None else None
        self._format = _JSON if _is_pydantic(model) else _MSGPACK
        self._class = model if _is_pydantic(model) or _has_fields(model) else None
        self._scalar = model if model in _SCALARS else None
        self._fingerprint = zlib.crc32(json.dumps(_schema(model), sort_keys=True).encode())
        self._header = (-1, b"")  # of the last time written: most values of a chunk are of one time
        self._write: Callable[[Any], bytes] = _to_json if self._format == _JSON else msgspec.msgpack.Encoder().encode
        self._read: Callable[[bytes], Any] = (
            model.__pydantic_validator__.validate_json
            if self._format == _JSON
            else msgspec.msgpack.Decoder(model).decode
        )

    def encode(self, value: Any, now_ms: int) -> bytes:
        """Write a value, and read it again: a value that later reads would refuse is refused now.

        Raises:
            StateError: the value is not of the model's type, or can't be written.
        """
        if self._class is not None and not isinstance(value, self._class):
            raise StateError(f"expected {_name(self.model)}, got {type(value).__name__}")
        try:
            body = self._write(value)
            if type(value) is not self._scalar:
                self._read(body)
        except Exception as exc:  # whatever the user's types raise
            raise StateError(f"{type(value).__name__} can't be stored as {_name(self.model)}: {_line(exc)}") from exc
        header = self._header
        if header[0] != now_ms:
            header = self._header = (now_ms, _HEADER.pack(self._format, max(0, now_ms), self._fingerprint))
        return header[1] + body

    def decode(self, stored: bytes) -> Any:
        """Read a value, also one of another version of the model.

        Raises:
            StateError: the value does not fit the model, or is damaged.
        """
        try:
            form, fingerprint = _model_of(stored)
            if fingerprint == self._fingerprint and form == self._format:
                return self._read(stored[_BODY:])
        except Exception as exc:  # a validator that refuses what it took before, or no value of this codec
            what = f"the value can't be read as {_name(self.model)}: {_line(exc)}"
            raise StateError(f"{what}; change the model so that it accepts the value") from exc
        return self._migrated(form, stored[_BODY:])

    def _migrated(self, form: int, body: bytes) -> Any:
        """Read a value of another version of the model."""
        what = f"was written by another version of {_name(self.model)}"
        if self._migrate is None:
            try:
                return _load(self.model, form, body)
            except Exception as exc:  # whatever the user's types raise
                raise StateError(f"the value {what} and does not fit: {_line(exc)}; pass migrate=") from exc
        try:
            older = _plain(form, body) if self._older is None else _load(self._older, form, body)
            value = self._migrate(older)
        except Exception as exc:  # the user's function
            raise StateError(f"the value {what}, and migrate failed: {_line(exc)}") from exc
        if self._class is not None and not isinstance(value, self._class):
            raise StateError(f"the value {what}, and migrate returned {type(value).__name__}")
        return value

    @staticmethod
    def version_of(stored: bytes) -> bytes:
        """Return the mark of the model that a value was written from."""
        return stored[:1] + stored[_BODY - 4 : _BODY]

    def is_expired(self, stored: bytes, now_ms: int) -> bool:
        """Return True if a value was written longer ago than its time to live; never of one that is damaged."""
        if self.ttl_ms is None or len(stored) < _BODY:
            return False
        written_ms: int = _HEADER.unpack_from(stored)[1]
        return written_ms + self.ttl_ms < now_ms

    def are_equal(self, stored: bytes, other: bytes) -> bool:
        """Return True if two stored values differ in their times only."""
        return stored[-1] == other[-1] and stored[9:] == other[9:] and stored[0] == other[0]


def plain_value(stored: bytes) -> Any:
    """Return a stored value as JSON-compatible data, without its model; `{"base64": ...}` if it can't be decoded.

    >>> plain_value(StateCodec(dict[str, int]).encode({"n": 3}, now_ms=1_000)), plain_value(bytes([0xFF]))
    ({'n': 3}, {'base64': '/w=='})
    """
    try:
        plain = _plain(_HEADER.unpack_from(stored)[0], stored[_BODY:])
        return msgspec.to_builtins(plain, str_keys=True)
    except (msgspec.MsgspecError, StructError, ValueError, TypeError):
        return {"base64": b64encode(stored).decode()}


def _plain(form: int, body: bytes) -> Any:
    return msgspec.json.decode(body) if form == _JSON else msgspec.msgpack.decode(body)


def _load(model: Any, form: int, body: bytes) -> Any:
    """Read a body of any format as `model`."""
    if _is_pydantic(model):
        return model.model_validate_json(body) if form == _JSON else model.model_validate(_plain(form, body))
    return msgspec.json.decode(body, type=model) if form == _JSON else msgspec.msgpack.decode(body, type=model)


def _to_json(value: BaseModel) -> bytes:
    return value.__pydantic_serializer__.to_json(value)


def _older_model(migrate: Callable[[Any], Any]) -> Any:
    """Return the model that the parameter of a function is annotated with; None if it takes plain data."""
    try:
        first = next(iter(inspect.signature(migrate).parameters))
        found = get_type_hints(migrate).get(first)
    except Exception:  # no signature, or annotations whose names are not defined here
        return None
    return found if _is_pydantic(found) or _has_fields(found) else None


def _is_pydantic(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)


def _has_fields(model: Any) -> bool:
    return isinstance(model, type) and (issubclass(model, msgspec.Struct) or is_dataclass(model))


def _schema(model: Any) -> Any:
    """Return the schema of a model without its titles and descriptions."""
    if _is_pydantic(model):
        return _without_notes(model.model_json_schema(mode="serialization"))
    return _without_notes(msgspec.json.schema(model))


def _without_notes(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_notes(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _without_notes(each)
        for name, each in schema.items()
        if not (name in _NOTES and isinstance(each, str))  # a field of that name has a schema, not a text
    }


def _name(model: Any) -> str:
    return model.__name__ if isinstance(model, type) else str(model)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
