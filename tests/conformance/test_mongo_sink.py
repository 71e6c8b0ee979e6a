"""The MongoDB sink keeps every sink's promises, on a server that speaks its protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from enum import StrEnum
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from pymongo import MongoClient

from drakkar_flow.errors import BatchFailed, SinkRejected, StartupError
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.sinks.mongo.payload import MongoPayload
from drakkar_flow.sinks.mongo.settings import MongoSinkConfig, MongoStatement
from drakkar_flow.sinks.mongo.sink import SPEC, MongoSink
from drakkar_flow.testing.conformance import Item, SinkBench, SinkSuite
from support.names import unique

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


class MongoBench(SinkBench):
    """One collection of a database of its own."""

    spec = SPEC

    def __init__(self, uri: str, driver: Literal["pymongo", "motor"]) -> None:
        self.uri = uri
        self.driver = driver
        self.client: MongoClient[Any] = MongoClient(uri)
        self.database = self.client[unique("db")]

    def sink(self) -> MongoSink:
        return self.configured()

    def configured(self, **settings: Any) -> MongoSink:
        """A sink with further settings."""
        mark = MongoStatement(collection="items", op="update_many", filter={"n": ":n"}, update={"$set": {"text": ":t"}})
        given = {"statements": {"mark": mark}} | settings
        return MongoSink(
            "main", MongoSinkConfig(uri=self.uri, database=self.database.name, driver=self.driver, **given)
        )

    def unreachable(self) -> MongoSink:
        uri = "mongodb://me:secret@127.0.0.1:1/?serverSelectionTimeoutMS=300"
        return MongoSink("main", MongoSinkConfig(uri=uri, database="none", driver=self.driver))

    def payload(self, item: Any, key: bytes | str | None = None) -> MongoPayload:
        return MongoPayload(collection="items", data=item)

    def odd(self) -> list[Any]:
        self.client[self.database.name]["items"].create_index("n", unique=True)
        return [
            *super().odd(),
            self.payload({"n": 2}),
            self.payload({"n": 2**70}),
            self.payload({"n": 9001, "text": "\ud800"}),
            self.payload({"n": 9002, "a\0b": 1}),
            self.payload({"n": 9003, "text": "x" * (17 * 1024 * 1024)}),
            MongoPayload(collection="a..b", data={"n": 1}),
            MongoPayload(op="update_one", collection="items", data={"_id": 5}, filter={"n": 1}),
        ]

    def read(self) -> list[Item]:
        return list(self.database["items"].find({}, {"_id": False}).sort("_id", 1))


@pytest.fixture(params=["pymongo", "motor"])
def bench(mongo: str, request: pytest.FixtureRequest) -> Iterator[MongoBench]:
    """A fresh database for each driver, which goes away after the test."""
    made = MongoBench(mongo, request.param)
    yield made
    made.client.drop_database(made.database.name)
    made.client.close()


class TestMongoSink(SinkSuite):
    """The suite."""


@pytest.fixture
async def sink(bench: MongoBench) -> AsyncIterator[MongoSink]:
    """A connected sink."""
    async with bench.connected() as made:
        assert isinstance(made, MongoSink)
        yield made


def deliveries(*payloads: MongoPayload) -> list[Delivery]:
    """Deliveries of payloads."""
    return [Delivery(payload, ()) for payload in payloads]


async def test_a_duplicate_key_fails_its_document_alone(bench: MongoBench, sink: MongoSink) -> None:
    """The documents around it are written, and no retry is asked for it."""
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch(bench.batch([{"_id": n} for n in (1, 2, 1, 3)]))
    assert list(caught.value.failures) == [2]
    assert isinstance(caught.value.failures[2], SinkRejected)
    assert [found["_id"] for found in bench.database["items"].find()] == [1, 2, 3]


class Colour(StrEnum):
    """An enumeration."""

    RED = "red"


class Thing(BaseModel):
    """A document with what the protocol does not know."""

    colour: Colour
    tags: set[str]


async def test_every_operation_does_what_its_name_says(bench: MongoBench, sink: MongoSink) -> None:
    """In one batch, in order, over two collections."""
    things = "things"
    await sink.write_batch(
        deliveries(
            *(MongoPayload(collection="items", data={"n": n, "text": "a"}) for n in (1, 1, 2, 3)),
            MongoPayload(collection=things, data=Thing(colour=Colour.RED, tags={"x"})),
            MongoPayload(op="update_one", collection="items", data={"text": "b"}, filter={"n": 1}),
            MongoPayload(op="update_many", collection="items", data={"text": "c"}, filter={"n": 1}),
            MongoPayload(op="delete_one", collection="items", filter={"n": 2}),
            MongoPayload(op="upsert", collection="items", data={"text": "new"}, filter={"n": 9}),
            MongoPayload(op="statement", statement="mark", params={"n": 3, "t": "marked"}),
            MongoPayload(op="delete_many", collection=things, filter={"colour": "blue"}),
        )
    )
    assert sorted((item["n"], item["text"]) for item in bench.read()) == [(1, "c"), (1, "c"), (3, "marked"), (9, "new")]
    assert bench.database[things].find_one({}, {"_id": False}) == {"colour": "red", "tags": ["x"]}


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (MongoPayload(op="delete_many", collection="items", filter={"$where": "true"}), "must not run code"),
        (MongoPayload(op="delete_one", collection="items", filter={"$or": [{"$expr": {"$function": 1}}]}), "run code"),
        (MongoPayload(op="statement", statement="mork", params={}), "there are: mark"),
        (MongoPayload(op="statement", statement="mark", params={"n": 1}), "needs the param t"),
        (MongoPayload(collection="items", data=7), "not a document"),
    ],
)
async def test_what_a_payload_did_wrong_is_said_and_not_tried_again(
    sink: MongoSink, payload: MongoPayload, why: str
) -> None:
    """Filters that run code, unknown statements, data that is no document."""
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch(deliveries(payload))
    (cause,) = caught.value.failures.values()
    assert isinstance(cause, SinkRejected)
    assert why in str(cause)


async def test_what_was_not_written_when_the_server_went_away_is_tried_again(sink: MongoSink) -> None:
    """Nothing is rejected."""
    assert sink._client is not None
    await sink._client.close()
    with pytest.raises((BatchFailed, Exception)) as caught:
        await sink.write_batch(deliveries(MongoPayload(collection="items", data={"n": 1})))
    assert not isinstance(caught.value, SinkRejected)


async def test_a_password_is_in_no_error(bench: MongoBench) -> None:
    """What can't be reached is named without what opens it."""
    with pytest.raises(StartupError) as caught:
        await bench.unreachable().connect()
    assert "secret" not in str(caught.value)


async def test_options_of_the_uri_override_the_defaults(bench: MongoBench) -> None:
    """The time that a server is looked for, with either driver."""
    with pytest.raises(StartupError) as caught:
        await bench.unreachable().connect()
    assert "Timeout: 0.3s" in str(caught.value)
