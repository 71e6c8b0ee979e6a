"""Payloads and results of hooks."""

from __future__ import annotations

from typing import Any, assert_type

from pydantic import BaseModel

from drakkar_flow import (
    CollectResult,
    CustomPayload,
    FilePayload,
    HttpPayload,
    KafkaPayload,
    MongoOp,
    MongoPayload,
    PostgresOp,
    PostgresPayload,
    RedisOp,
    RedisPayload,
    SqlitePayload,
)


class Hit(BaseModel):
    """A user's model."""

    path: str


def right(hit: Hit) -> None:
    """Everything a hook may send."""
    result = CollectResult(
        kafka=[KafkaPayload(data=hit, key=b"k", sink="out"), KafkaPayload(data={"a": 1}, key="k", partition=3)],
        postgres=[
            PostgresPayload(table="hits", data=hit),
            PostgresPayload(op=PostgresOp.UPSERT, table="hits", data=hit, conflict=["path"]),
            PostgresPayload(op="update", table="hits", data=hit, where={"path": "a"}),
        ],
        mongo=[MongoPayload(op=MongoOp.UPDATE_ONE, collection="hits", data=hit, filter={"path": "a"})],
        redis=[
            RedisPayload(key="k", data=hit, ttl=60),
            RedisPayload(op=RedisOp.ZADD, key="k", members={"a": 1.5}),
            RedisPayload(op="push", key="k", data=hit, side="right"),
        ],
        http=[HttpPayload(data=hit)],
        files=[FilePayload(path="hits.jsonl", data=hit)],
        sqlite=[SqlitePayload(table="hits", data=hit)],
        custom=[CustomPayload(sink="mine", data=hit)],
    )
    assert_type(result.has_outputs, bool)
    assert_type(result.used_sink_types, set[str])
    assert_type(result.kafka[0].model_copy(update={"key": None}), KafkaPayload)
    assert_type(result.model_dump(), dict[str, Any])


def wrong(hit: Hit) -> None:
    """What is missing, misspelt or of another type."""
    KafkaPayload(key=b"k")  # E: call-arg
    KafkaPayload(hit)  # E: arg-type, call-arg
    KafkaPayload(data=hit, topic="out")  # E: call-arg
    KafkaPayload(data=hit, key=5)  # E: arg-type
    KafkaPayload(data=hit, partition="3")  # E: arg-type
    FilePayload(data=hit)  # E: call-arg
    FilePayload(path=b"hits.jsonl", data=hit)  # E: arg-type
    SqlitePayload(table=5, data=hit)  # E: arg-type
    HttpPayload(data=hit, url="http://x")  # E: call-arg
    CustomPayload(data=hit)  # E: call-arg
    PostgresPayload(op=5, table="hits", data=hit)  # E: arg-type
    PostgresPayload(op="upsert", table="hits", data=hit, conflict="path")  # E: arg-type
    MongoPayload(collection="hits", document=hit)  # E: call-arg
    RedisPayload(key="k", data=hit, ttl="60")  # E: arg-type
    RedisPayload(op="push", key="k", data=hit, side="top")  # E: arg-type
    CollectResult(kafka=KafkaPayload(data=hit))  # E: arg-type
    CollectResult(kafka=[FilePayload(path="p", data=hit)])  # E: list-item
    CollectResult(kafkas=[])  # E: call-arg
    CollectResult([])  # E: call-arg
