"""Checks of payloads: what a sink refuses without asking its target. Pure; the testing kit refuses the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from drakkar_flow.errors import SinkRejected
from drakkar_flow.model.codec import encode
from drakkar_flow.model.mongo import MongoOp, MongoPayload
from drakkar_flow.model.payload import FilePayload, HttpPayload, KafkaPayload, SqlitePayload
from drakkar_flow.model.postgres import PostgresOp, PostgresPayload
from drakkar_flow.model.redis import RedisOp, RedisPayload
from drakkar_flow.sinks.files import entry_of
from drakkar_flow.sinks.kafka import message_of
from drakkar_flow.sinks.mongo_ops import operation_of
from drakkar_flow.sinks.postgres_sql import write_of
from drakkar_flow.sinks.redis_commands import command_of
from drakkar_flow.sinks.rows import make_row

__all__ = ["refusal_of"]

Settings = Mapping[str, Any]


def refusal_of(payload: Any, settings: Settings) -> SinkRejected | None:
    """Why a sink would refuse a payload by itself; None where it would not. Named statements are not looked up.

    >>> refusal_of(KafkaPayload(data={"price": float("nan")}), {})
    SinkRejected("the payload can't be encoded: ValueError: nan has no JSON form; send None or text")

    Args:
        payload: of any kind; one that is not known is not refused.
        settings: of the sink, by their names.
    """
    check = _CHECKS.get(type(payload))
    if check is None:
        return None
    try:
        check(payload, settings)
    except SinkRejected as error:
        return error
    except Exception as error:  # a model's own serializers may raise anything
        return SinkRejected(f"the payload can't be encoded: {type(error).__name__}: {error}")
    return None


def _mongo(payload: MongoPayload, settings: Settings) -> None:
    if payload.op is not MongoOp.STATEMENT:
        operation_of(payload, {}, any_operators=settings.get("operators") == "any")


def _postgres(payload: PostgresPayload, _settings: Settings) -> None:
    if payload.op is not PostgresOp.STATEMENT:
        write_of(payload, {})


def _redis(payload: RedisPayload, _settings: Settings) -> None:
    if payload.op is not RedisOp.SCRIPT:
        command_of(payload, "", {})


def _http(payload: HttpPayload, settings: Settings) -> None:
    if settings.get("encoding", "json") == "json":
        encode(payload.data)


_CHECKS: Mapping[type, Callable[[Any, Settings], object]] = {
    KafkaPayload: lambda payload, _: message_of(payload),
    FilePayload: lambda payload, _: entry_of(0, payload),
    HttpPayload: _http,
    MongoPayload: _mongo,
    PostgresPayload: _postgres,
    RedisPayload: _redis,
    SqlitePayload: lambda payload, _: make_row(payload),
}
