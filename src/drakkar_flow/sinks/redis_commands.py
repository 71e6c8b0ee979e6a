"""Payloads to Redis commands: a name, and arguments as the bytes the server stores. Pure."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

from drakkar_flow.errors import SinkRejected
from drakkar_flow.model.codec import encode
from drakkar_flow.model.redis import RedisOp, RedisPayload

__all__ = ["Command", "argument", "command_of"]

Command = tuple[str | bytes, ...]

_AS_TEXT = (UUID, Decimal, date, datetime, time, timedelta)


def command_of(payload: RedisPayload, prefix: str, scripts: Mapping[str, str]) -> Command:
    """The command a payload becomes; `scripts` has the digests of the sink's scripts by name.

    >>> command_of(RedisPayload(key="k", data={"a": 1}, ttl=60), "app:", {})
    ('SET', b'app:k', b'{"a":1}', b'EX', b'60')

    Raises:
        SinkRejected: a value can't be written, or there is no such script.
    """
    try:
        if payload.op is RedisOp.SCRIPT:
            return _script(payload, prefix, scripts)
        name, *rest = _COMMANDS[RedisOp(payload.op)](payload)
        return (name, _key(prefix, payload.key, "key"), *rest)
    except SinkRejected:
        raise
    except Exception as error:  # a model's own serializers may raise anything
        raise SinkRejected(f"the payload can't be written: {type(error).__name__}: {error}") from error


def argument(value: Any, field: str) -> bytes:
    """The bytes that Redis stores for a value of a payload's field.

    Text is UTF-8, bytes stay as they are, numbers are decimal, True and False are `true` and `false`, an enum is its
    value, a UUID, Decimal or date is its usual text, lists, mappings and models are JSON.

    >>> argument(True, "fields['ok']"), argument(0.1, "args[0]"), argument(UUID(int=1), "members[0]")
    (b'true', b'0.1', b'00000000-0000-0000-0000-000000000001')

    Raises:
        SinkRejected: the value is None, for which Redis has no form, or has no text.
    """
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        raise SinkRejected(f"{field} is None, and Redis has no null: leave it out, or give an empty text")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, os.PathLike):
        return os.fsencode(value)
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return repr(value).encode()
        if isinstance(value, _AS_TEXT):
            value = str(msgspec.to_builtins(value))
        return encode(value)
    except Exception as error:  # a model's own serializers may raise anything
        raise SinkRejected(f"{field} can't be written: {type(error).__name__}: {error}") from error


def _key(prefix: str, key: Any, field: str) -> bytes:
    return prefix.encode() + argument(key, field)


def _script(payload: RedisPayload, prefix: str, scripts: Mapping[str, str]) -> Command:
    digest = scripts.get(payload.script)
    if digest is None:
        known = ", ".join(sorted(scripts)) or "none"
        raise SinkRejected(f"there is no script {payload.script!r} in the sink's scripts; there are: {known}")
    keys = [_key(prefix, key, f"keys[{number}]") for number, key in enumerate(payload.keys)]
    return ("EVALSHA", digest, str(len(keys)).encode(), *keys, *_list(payload.args, "args"))


def _set(payload: RedisPayload) -> Command:
    expiry = (b"EX", argument(payload.ttl, "ttl")) if payload.ttl is not None else ()
    return ("SET", argument(payload.data, "data"), *expiry)


def _hset(payload: RedisPayload) -> Command:
    pairs = _pairs(payload.fields)
    return ("HSET", *(part for name, value in pairs for part in (argument(name, "fields"), _item(value, name))))


def _item(value: Any, name: Any) -> bytes:
    return argument(value, f"fields[{name!r}]")


def _zadd(payload: RedisPayload) -> Command:
    pairs = _pairs(payload.members)
    return ("ZADD", *(part for member, score in pairs for part in (_score(score, member), argument(member, "members"))))


def _score(score: Any, member: Any) -> bytes:
    return argument(int(score) if isinstance(score, bool) else score, f"members[{member!r}]")


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items())


def _list(values: Iterable[Any] | None, field: str) -> list[bytes]:
    return [argument(value, f"{field}[{number}]") for number, value in enumerate(values or ())]


_COMMANDS: Mapping[RedisOp, Callable[[RedisPayload], Command]] = {
    RedisOp.SET: _set,
    RedisOp.DELETE: lambda payload: ("DEL",),
    RedisOp.EXPIRE: lambda payload: ("EXPIRE", argument(payload.ttl, "ttl")),
    RedisOp.INCRBY: lambda payload: ("INCRBY", argument(payload.amount, "amount")),
    RedisOp.HSET: _hset,
    RedisOp.HDEL: lambda payload: ("HDEL", *_list(payload.fields, "fields")),
    RedisOp.PUSH: lambda payload: ("RPUSH" if payload.side == "right" else "LPUSH", argument(payload.data, "data")),
    RedisOp.TRIM: lambda payload: ("LTRIM", argument(payload.start, "start"), argument(payload.stop, "stop")),
    RedisOp.SADD: lambda payload: ("SADD", *_list(payload.members, "members")),
    RedisOp.SREM: lambda payload: ("SREM", *_list(payload.members, "members")),
    RedisOp.ZADD: _zadd,
}
