"""The kit refuses the payloads that a real sink refuses by itself."""

from __future__ import annotations

from typing import Any

import pytest

from drakkar_flow import (
    FilePayload,
    HttpPayload,
    KafkaPayload,
    MongoExpr,
    MongoPayload,
    MongoSink,
    PostgresPayload,
    RedisPayload,
    SqlitePayload,
    StreamFlow,
)
from drakkar_flow.sinks.registry import SPECS
from drakkar_flow.testing import MemorySink, run_flow

NAN = float("nan")
WIDENED: dict[str, Any] = {"op": "delete_many", "collection": "jobs", "filter": {"id": {"$ne": None}}}


def run(payload: Any, **settings: Any) -> tuple[int, int]:
    """How many payloads were delivered and became dead letters."""
    (kind,) = [kind for kind, spec in SPECS.items() if spec.payload_type is type(payload)]
    flow = StreamFlow("f").decode(int).map(lambda _: payload)
    route = flow.route(MongoSink("out", **settings)) if settings else flow.route()
    sink = MemorySink("out", kind=kind)
    outcome = run_flow(route, [1], sinks=[sink])
    return len(sink.payloads), len(outcome.dead_letters)


@pytest.mark.parametrize(
    "payload",
    [
        KafkaPayload(data={"v": NAN}),
        KafkaPayload(data=1, headers=[("a\0", b"")]),
        FilePayload(path="f", data="a\nb"),
        HttpPayload(data={"v": NAN}),
        MongoPayload(**WIDENED),
        PostgresPayload(table="a;b", data={"n": 1}),
        RedisPayload(op="hset", key="k", fields={"a": None}),  # type: ignore[dict-item]  # wrong on purpose
        SqlitePayload(table="t", data={"v": NAN}),
    ],
    ids=lambda payload: type(payload).__name__,
)
def test_what_a_sink_refuses_becomes_a_dead_letter(payload: Any) -> None:
    """With the kit as with a worker."""
    assert run(payload) == (0, 1)


def test_the_settings_of_the_sink_count() -> None:
    """Operators that the author marked, or that the sink takes from anybody, are written."""
    assert run(MongoPayload(**WIDENED), operators="any") == (1, 0)
    assert run(MongoPayload(**WIDENED | {"filter": {"id": MongoExpr({"$ne": None})}})) == (1, 0)
    assert run(MongoPayload(op="statement", statement="expire", params={})) == (1, 0)
