"""Values in MongoDB payloads are literal and stored without loss, by both drivers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from uuid import UUID

import pytest
from bson.decimal128 import Decimal128
from pydantic import BaseModel

from conformance.test_mongo_sink import MongoBench, deliveries
from drakkar_flow import MongoExpr, MongoPayload
from drakkar_flow.errors import BatchFailed, SinkRejected
from drakkar_flow.sinks.mongo.settings import MongoStatement
from drakkar_flow.sinks.mongo.sink import MongoSink

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

STATEMENTS = {
    "mark": MongoStatement(collection="items", op="update_many", filter={"n": ":n"}, update={"$set": {"text": ":t"}}),
    "push": MongoStatement(collection="items", op="update_many", filter={"n": ":n"}, update={"$push": {"tags": ":v"}}),
    "since": MongoStatement(collection="items", op="delete_many", filter={"n": {"$gte": ":n"}}),
    "same": MongoStatement(collection="items", op="delete_many", filter={"$expr": {"$eq": ["$text", ":t"]}}),
}
INJECTED: list[Any] = [
    {"$ne": None},
    {"$gte": 0},
    {"$exists": True},
    {"$in": [1, 2]},
    {"$regex": "."},
    {"$not": {"$eq": 9}},
    [{"$ne": None}],
    {"a": {"$ne": 1}},
]


@pytest.fixture(params=["pymongo", "motor"])
def bench(mongo: str, request: pytest.FixtureRequest) -> Iterator[MongoBench]:
    """Three items in a fresh database."""
    made = MongoBench(mongo, request.param)
    made.database["items"].insert_many([{"n": n, "text": f"item {n}", "secret": f"item {n}"} for n in (1, 2, 3)])
    yield made
    made.client.drop_database(made.database.name)
    made.client.close()


@pytest.fixture
async def sink(bench: MongoBench) -> AsyncIterator[MongoSink]:
    """A connected sink with statements."""
    async with bench.connected(bench.configured(statements=STATEMENTS)) as made:
        assert isinstance(made, MongoSink)
        yield made


async def refused(sink: MongoSink, *payloads: MongoPayload) -> list[str]:
    """Write payloads, all of which must be refused for good; gives the reasons."""
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch(deliveries(*payloads))
    causes = caught.value.failures
    assert list(causes) == list(range(len(payloads)))
    assert {type(cause) for cause in causes.values()} == {SinkRejected}
    return [str(cause) for cause in causes.values()]


def left(bench: MongoBench) -> list[tuple[int, str]]:
    """What the collection holds."""
    return [(item["n"], item["text"]) for item in bench.read()]


ALL = [(1, "item 1"), (2, "item 2"), (3, "item 3")]


class ById(BaseModel):
    """A filter as a model, whose field is not typed."""

    n: Any


@pytest.mark.parametrize("value", INJECTED, ids=str)
async def test_g7_a_message_cannot_widen_a_filter(bench: MongoBench, sink: MongoSink, value: Any) -> None:
    """Whatever the operation: nothing is removed or changed, and the reason says how an author marks an operator."""
    message = {"id": value}
    reasons = await refused(
        sink,
        MongoPayload(op="delete_many", collection="items", filter={"n": message["id"]}),
        MongoPayload(op="delete_one", collection="items", filter={"n": message["id"]}),
        MongoPayload(op="delete_many", collection="items", filter=ById(n=message["id"])),
        MongoPayload(op="update_many", collection="items", filter={"n": message["id"]}, data={"text": "x"}),
        MongoPayload(op="upsert", collection="items", filter={"n": message["id"]}, data={"text": "x"}),
        MongoPayload(op="statement", statement="mark", params={"n": message["id"], "t": "x"}),
        MongoPayload(op="statement", statement="since", params={"n": message["id"]}),
        MongoPayload(op="delete_many", collection="items", filter={"n": MongoExpr({"$not": message["id"]})}),
    )
    assert all("MongoExpr" in reason for reason in reasons)
    assert left(bench) == ALL


async def test_g7_a_message_cannot_write_operators_or_paths(bench: MongoBench, sink: MongoSink) -> None:
    """In the data of updates, in modifiers of statements and in names of collections."""
    update: dict[str, Any] = {"op": "update_many", "collection": "items", "filter": {"n": 1}}
    await refused(
        sink,
        MongoPayload(**update, data={"$inc": {"n": 1}}),
        MongoPayload(**update, data={"secret.deep": "x"}),
        MongoPayload(op="upsert", collection="items", filter={"n": 9}, data={"$set": 1}),
        MongoPayload(op="statement", statement="push", params={"n": 1, "v": {"$each": [1, 2]}}),
        MongoPayload(op="delete_many", collection="items", filter={"$or": [{"n": 1}, {"n": 2}]}),
        MongoPayload(op="delete_many", collection="items", filter=MongoExpr({"$expr": {"a": "$b"}})),
        MongoPayload(collection="system.users", data={"n": 1}),
        MongoPayload(collection="a$b", data={"n": 1}),
        MongoPayload(collection="a\0b", data={"n": 1}),
        MongoPayload(collection="a..b", data={"n": 1}),
    )
    assert left(bench) == ALL


async def test_g7_text_of_a_message_names_no_field(bench: MongoBench, sink: MongoSink) -> None:
    """Where a statement is an aggregation expression, `$secret` from a message is text."""
    await sink.write_batch(deliveries(MongoPayload(op="statement", statement="same", params={"t": "$secret"})))
    assert left(bench) == ALL


async def test_g7_operators_of_the_author_work(bench: MongoBench, sink: MongoSink) -> None:
    """Marked ones in filters and updates, and those of statements."""
    await sink.write_batch(
        deliveries(
            MongoPayload(
                op="update_many",
                collection="items",
                filter={"n": MongoExpr({"$gt": 1})},
                data=MongoExpr({"$inc": {"n": 10}, "$set": {"text": "moved"}}),
            ),
            MongoPayload(op="delete_many", collection="items", filter=MongoExpr({"$or": [{"n": 1}, {"n": 12}]})),
            MongoPayload(op="statement", statement="since", params={"n": 99}),
        )
    )
    assert left(bench) == [(13, "moved")]


async def test_g7_a_sink_may_take_operators_as_py_drakkar_does(bench: MongoBench) -> None:
    """`operators: any` lets filters and data of such handlers run unchanged; code and params stay refused."""
    async with bench.connected(bench.configured(operators="any", statements=STATEMENTS)) as sink:
        assert isinstance(sink, MongoSink)
        await sink.write_batch(
            deliveries(
                MongoPayload(op="update_many", collection="items", filter={"n": {"$lt": 3}}, data={"at.last": 7}),
                MongoPayload(op="delete_many", collection="items", filter={"n": {"$gt": 1}}),
            )
        )
        await refused(
            sink,
            MongoPayload(op="delete_many", collection="items", filter={"$where": "true"}),
            MongoPayload(op="statement", statement="since", params={"n": {"$gte": 0}}),
        )
    (item,) = bench.database["items"].find({}, {"_id": False})
    assert item == {"n": 1, "text": "item 1", "secret": "item 1", "at": {"last": 7}}


@dataclass
class Point:
    """A dataclass inside of a document."""

    x: int


async def test_f11_values_are_stored_as_they_are(bench: MongoBench, sink: MongoSink) -> None:
    """Decimals exactly, UUIDs and bytes as such, times as the same moment."""
    at = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone(timedelta(hours=5)))
    uuid = UUID(int=7)
    await sink.write_batch(
        deliveries(
            MongoPayload(
                collection="things",
                data={
                    "price": Decimal("0.1"),
                    "float": 0.1,
                    "big": 2**63 - 1,
                    "uuid": uuid,
                    "at": at,
                    "day": date(2026, 1, 2),
                    "raw": b"\xff\x00",
                    "view": memoryview(b"\xfe"),
                    "point": Point(1),
                    "none": None,
                    "path": PurePath("/a"),
                },
            )
        )
    )
    found = bench.client.get_database(bench.database.name)["things"].find_one({}, {"_id": False})
    assert found is not None
    assert found.pop("uuid").as_uuid() == uuid
    assert found == {
        "price": Decimal128("0.1"),
        "float": 0.1,
        "big": 2**63 - 1,
        "at": at.astimezone(UTC).replace(tzinfo=None),
        "day": datetime(2026, 1, 2),
        "raw": b"\xff\x00",
        "view": b"\xfe",
        "point": {"x": 1},
        "none": None,
        "path": "/a",
    }


async def test_f11_what_mongodb_cannot_hold_is_refused_alone(bench: MongoBench, sink: MongoSink) -> None:
    """Integers beyond 64 bits, decimals of more than 34 digits, durations; the others are written."""
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch(
            deliveries(
                *(
                    MongoPayload(collection="things", data={"v": value})
                    for value in (1, 2**63, 2, Decimal("1." + "1" * 40), 3, timedelta(1), 4)
                )
            )
        )
    assert list(caught.value.failures) == [1, 3, 5]
    assert {type(cause) for cause in caught.value.failures.values()} == {SinkRejected}
    assert [found["v"] for found in bench.database["things"].find()] == [1, 2, 3, 4]


async def test_g18_the_reason_of_a_refusal_quotes_no_document(bench: MongoBench, sink: MongoSink) -> None:
    """The server's words are its detail."""
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch(
            deliveries(*(MongoPayload(collection="things", data={"_id": "private-4711"}) for _ in range(2)))
        )
    cause = caught.value.failures[1]
    assert isinstance(cause, SinkRejected)
    assert "DuplicateKey" in str(cause)
    assert "private-4711" not in str(cause)
    assert "private-4711" in cause.detail
