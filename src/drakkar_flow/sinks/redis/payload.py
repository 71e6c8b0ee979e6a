"""Redis payload: one command or one named script."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from drakkar_flow.model.base import Payload
from drakkar_flow.model.operations import Fields, check_fields, operation

__all__ = ["RedisOp", "RedisPayload"]


class RedisOp(StrEnum):
    """Command of a payload."""

    SET = "set"
    DELETE = "delete"
    EXPIRE = "expire"
    INCRBY = "incrby"
    HSET = "hset"
    HDEL = "hdel"
    PUSH = "push"
    TRIM = "trim"
    SADD = "sadd"
    SREM = "srem"
    ZADD = "zadd"
    SCRIPT = "script"


_FIELDS = {
    RedisOp.SET: Fields.of("key data", may="ttl"),
    RedisOp.DELETE: Fields.of("key"),
    RedisOp.EXPIRE: Fields.of("key ttl"),
    RedisOp.INCRBY: Fields.of("key amount"),
    RedisOp.HSET: Fields.of("key fields"),
    RedisOp.HDEL: Fields.of("key fields"),
    RedisOp.PUSH: Fields.of("key data", may="side"),
    RedisOp.TRIM: Fields.of("key start stop"),
    RedisOp.SADD: Fields.of("key members"),
    RedisOp.SREM: Fields.of("key members"),
    RedisOp.ZADD: Fields.of("key members"),
    RedisOp.SCRIPT: Fields.of("script keys", may="args"),
}
_PAIRS = (RedisOp.HSET, RedisOp.ZADD)


class RedisPayload(Payload, kw_only=True, gc=False):
    """One command for a Redis sink; `key` and each of `keys` get the sink's `key_prefix`.

    `data` is a pydantic model, a msgspec struct, a dataclass or a JSON-able value (written as JSON),
    text or bytes (as they are). `ttl` is in seconds.

    | op | needs | may have | command |
    | --- | --- | --- | --- |
    | set (default) | key, data | ttl | SET, with EX |
    | delete | key | | DEL |
    | expire | key, ttl | | EXPIRE |
    | incrby | key, amount | | INCRBY |
    | hset | key, fields: a mapping | | HSET |
    | hdel | key, fields: names | | HDEL |
    | push | key, data | side, by default left | LPUSH, RPUSH |
    | trim | key, start, stop | | LTRIM |
    | sadd, srem | key, members: a list | | SADD, SREM |
    | zadd | key, members: member to score | | ZADD |
    | script | script, of `sinks.redis.<name>.scripts`; keys | args | EVALSHA |

    >>> RedisPayload(op="sadd", key="seen", members="abc")
    Traceback (most recent call last):
    ...
    ValueError: RedisPayload(op='sadd') needs members as a list, not str

    Raises:
        ValueError: a required field is missing, the op does not use a given field, or
            `fields` or `members` has the wrong shape.
    """

    op: RedisOp | str = RedisOp.SET
    key: str = ""
    data: Any = None
    ttl: int | None = None
    fields: dict[str, str | int | float] | list[str] | None = None
    members: dict[str, float] | list[str] | None = None
    amount: int | None = None
    side: Literal["left", "right"] | None = None
    start: int | None = None
    stop: int | None = None
    script: str = ""
    keys: list[str] = []
    args: list[str | int | float] = []

    def __post_init__(self) -> None:
        op = self.op = operation(RedisOp, self.op)
        check_fields(self, op, _FIELDS)
        self._check_shape("fields", self.fields)
        self._check_shape("members", self.members)
        if self.side not in (None, "left", "right"):
            raise ValueError(f"side must be 'left' or 'right', not {self.side!r}")

    def _check_shape(self, name: str, value: object) -> None:
        if value is None:
            return
        wanted, article = ((Mapping,), "a mapping") if self.op in _PAIRS else ((list, tuple, set), "a list")
        if not isinstance(value, wanted):
            found = type(value).__name__
            raise ValueError(f"RedisPayload(op={str(self.op)!r}) needs {name} as {article}, not {found}")
