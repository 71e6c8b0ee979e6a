"""Redis commands of payloads: a name, and arguments as the bytes the server stores. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from drakkar_flow.errors import SinkRejected
from drakkar_flow.sinks.natural import bytes_of
from drakkar_flow.sinks.redis.payload import RedisOp, RedisPayload

__all__ = ["Command", "command_of"]

Command = tuple[str | bytes, ...]


def command_of(payload: RedisPayload, prefix: str, scripts: Mapping[str, str]) -> Command:
    """Return the command of a payload; `scripts` has the digests of the sink's scripts by name.

    >>> command_of(RedisPayload(key="k", data={"a": 1}, ttl=60), "app:", {})
    ('SET', b'app:k', b'{"a":1}', b'EX', b'60')

    Raises:
        SinkRejected: a value can't be written, or the script is unknown.
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


def _key(prefix: str, key: Any, field: str) -> bytes:
    return prefix.encode() + bytes_of(key, field)


def _script(payload: RedisPayload, prefix: str, scripts: Mapping[str, str]) -> Command:
    digest = scripts.get(payload.script)
    if digest is None:
        known = ", ".join(sorted(scripts)) or "none"
        raise SinkRejected(f"there is no script {payload.script!r} in the sink's scripts; there are: {known}")
    keys = [_key(prefix, key, f"keys[{number}]") for number, key in enumerate(payload.keys)]
    return ("EVALSHA", digest, str(len(keys)).encode(), *keys, *_list(payload.args, "args"))


def _set(payload: RedisPayload) -> Command:
    expiry = (b"EX", bytes_of(payload.ttl, "ttl")) if payload.ttl is not None else ()
    return ("SET", bytes_of(payload.data, "data"), *expiry)


def _hset(payload: RedisPayload) -> Command:
    pairs = _pairs(payload.fields)
    return ("HSET", *(part for name, value in pairs for part in (bytes_of(name, "fields"), _item(value, name))))


def _item(value: Any, name: Any) -> bytes:
    return bytes_of(value, f"fields[{name!r}]")


def _zadd(payload: RedisPayload) -> Command:
    pairs = _pairs(payload.members)
    return ("ZADD", *(part for member, score in pairs for part in (_score(score, member), bytes_of(member, "members"))))


def _score(score: Any, member: Any) -> bytes:
    return bytes_of(int(score) if isinstance(score, bool) else score, f"members[{member!r}]")


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items())


def _list(values: Iterable[Any] | None, field: str) -> list[bytes]:
    return [bytes_of(value, f"{field}[{number}]") for number, value in enumerate(values or ())]


_COMMANDS: Mapping[RedisOp, Callable[[RedisPayload], Command]] = {
    RedisOp.SET: _set,
    RedisOp.DELETE: lambda payload: ("DEL",),
    RedisOp.EXPIRE: lambda payload: ("EXPIRE", bytes_of(payload.ttl, "ttl")),
    RedisOp.INCRBY: lambda payload: ("INCRBY", bytes_of(payload.amount, "amount")),
    RedisOp.HSET: _hset,
    RedisOp.HDEL: lambda payload: ("HDEL", *_list(payload.fields, "fields")),
    RedisOp.PUSH: lambda payload: ("RPUSH" if payload.side == "right" else "LPUSH", bytes_of(payload.data, "data")),
    RedisOp.TRIM: lambda payload: ("LTRIM", bytes_of(payload.start, "start"), bytes_of(payload.stop, "stop")),
    RedisOp.SADD: lambda payload: ("SADD", *_list(payload.members, "members")),
    RedisOp.SREM: lambda payload: ("SREM", *_list(payload.members, "members")),
    RedisOp.ZADD: _zadd,
}
