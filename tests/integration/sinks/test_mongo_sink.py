"""The MongoDB sink before servers that step down, refuse a login or a collection."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from drakkar_flow.errors import StartupError
from drakkar_flow.sinks.mongo.payload import MongoPayload
from drakkar_flow.sinks.mongo.settings import MongoSinkConfig
from drakkar_flow.sinks.mongo.sink import SPEC, MongoSink
from drakkar_flow.testing.conformance import deliver
from support.mongo_fake import FakeMongo

pytestmark = pytest.mark.anyio

Driver = Literal["pymongo", "motor"]


def items(count: int) -> list[MongoPayload]:
    """Documents with numbers."""
    return [MongoPayload(collection="items", data={"n": n}) for n in range(count)]


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
@pytest.mark.parametrize(
    ("code", "name"),
    [
        (10107, "NotWritablePrimary"),
        (189, "PrimarySteppedDown"),
        (91, "ShutdownInProgress"),
        (13435, "NotPrimaryNoSecondaryOk"),
    ],
)
async def test_f7_connections_to_a_server_that_is_not_the_primary_any_more_are_left(
    driver: Driver, code: int, name: str
) -> None:
    """An old connection is told so for ever, as after a fail-over behind one name; a new one can write."""
    old: set[int] = set()

    def answer(connection: int, command: dict[str, Any]) -> dict[str, Any]:
        if not old:
            old.update(range(connection + 1))
        if connection in old:
            return {"ok": 0, "code": code, "codeName": name, "errmsg": "not primary"}
        return {"ok": 1, "n": len(command["documents"])}

    with FakeMongo(answer) as server:
        sink = MongoSink("main", MongoSinkConfig(uri=server.uri, database="d", driver=driver))
        await sink.connect()
        try:
            delivered = await deliver(sink, SPEC, items(5), attempts=3)
        finally:
            await sink.close()
    assert delivered.failures == []
    assert [document["n"] for document in server.written] == [0, 1, 2, 3, 4]


async def test_n1_missing_rights_are_told_from_a_bad_document() -> None:
    """Unauthorized is about the collection: one try, no search; a duplicate key is about its document."""
    tries = 0

    def answer(_: int, command: dict[str, Any]) -> dict[str, Any]:
        nonlocal tries
        tries += 1
        if command["insert"] == "closed":
            return {"ok": 0, "code": 13, "codeName": "Unauthorized", "errmsg": "not authorized on d"}
        return {"ok": 1, "n": len(command["documents"])}

    with FakeMongo(answer) as server:
        sink = MongoSink("main", MongoSinkConfig(uri=server.uri, database="d"))
        await sink.connect()
        try:
            closed = [MongoPayload(collection="closed", data={"n": n}) for n in range(50)]
            delivered = await deliver(sink, SPEC, [*closed, *items(3)])
        finally:
            await sink.close()
    assert {failure.exception_class for failure in delivered.failures} == {"drakkar_flow.errors.SinkMisconfigured"}
    assert len(delivered.failures) == 50
    assert [document["n"] for document in server.written] == [0, 1, 2]
    assert tries == 2


@pytest.mark.parametrize(
    "uri",
    ["mongodb://joe:PGPW@127.0.0.1:1/?tls=true&ssl=false", "mongodb://joe:PGPW@127.0.0.1:1/?authSource="],
)
async def test_g8_a_uri_that_the_client_does_not_take_ends_the_start_without_a_word_of_it(uri: str) -> None:
    """Exit code 2, with the key."""
    sink = MongoSink("main", MongoSinkConfig(uri=uri, database="d"))
    with pytest.raises(StartupError) as caught:
        await sink.connect()
    assert (caught.value.exit_code, caught.value.problems[0].where) == (2, "sinks.mongo.main.uri")
    assert "PGPW" not in str(caught.value)
