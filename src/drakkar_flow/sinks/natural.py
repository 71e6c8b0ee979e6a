"""Natural values: the bytes that Redis, which has no types, stores for a Python value. Pure."""

from __future__ import annotations

import os
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

from drakkar_flow.errors import SinkRejected
from drakkar_flow.model.codec import encode

__all__ = ["bytes_of"]

_AS_TEXT = (UUID, Decimal, date, datetime, time, timedelta)


def bytes_of(value: Any, field: str) -> bytes:
    """Return the bytes that Redis stores for a value; `field` names it in errors.

    - Text is UTF-8, bytes stay as they are.
    - Numbers are decimal, True and False are `true` and `false`.
    - An enum is its value. A UUID, Decimal or date is its usual text.
    - Lists, mappings and models are JSON.

    >>> bytes_of(True, "fields['ok']"), bytes_of(0.1, "args[0]"), bytes_of(UUID(int=1), "members[0]")
    (b'true', b'0.1', b'00000000-0000-0000-0000-000000000001')

    Raises:
        SinkRejected: the value is None, which has no form outside of JSON, or can't be encoded.
    """
    if type(value) is bytes:
        return value
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        raise SinkRejected(f"{field} is None, which Redis can't store: leave it out, or send an empty text")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    try:
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, os.PathLike):
            return os.fsencode(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return repr(value).encode()
        if isinstance(value, _AS_TEXT):
            value = str(msgspec.to_builtins(value))
        return encode(value)
    except Exception as error:  # a model's own serializers may raise anything
        raise SinkRejected(f"{field} can't be written: {type(error).__name__}: {error}") from error
