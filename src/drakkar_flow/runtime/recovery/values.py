"""Stored values of state as JSON-compatible data, for people: decoded without the flow's models."""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import msgspec

__all__ = ["plain_value"]

_HEADER = struct.Struct(">BQI")  # format of the body, time written in ms, fingerprint of the model
_BODIES: dict[int, Callable[[bytes], Any]] = {1: msgspec.msgpack.decode, 2: msgspec.json.decode}


def plain_value(stored: bytes) -> Any:
    """Return a stored value as data; `{"base64": ...}` if it can't be decoded.

    >>> plain_value(bytes.fromhex("01 00000000000003e8 0000beef") + msgspec.msgpack.encode({"n": 3}))
    {'n': 3}
    >>> plain_value(bytes([0xFF]))
    {'base64': '/w=='}
    """
    try:
        form, _, _ = _HEADER.unpack_from(stored)
        return msgspec.to_builtins(_BODIES[form](stored[_HEADER.size :]), str_keys=True)
    except (msgspec.MsgspecError, struct.error, KeyError, ValueError, TypeError):
        return {"base64": b64encode(stored).decode()}
