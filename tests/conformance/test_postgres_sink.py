"""The PostgreSQL sink keeps every sink's promises, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import asyncpg
import pytest
from pydantic import BaseModel

from drakkar_flow.errors import BatchFailed, SinkError, SinkMisconfigured, SinkRejected, StartupError
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.sinks.postgres.payload import PostgresPayload
from drakkar_flow.sinks.postgres.settings import PostgresSinkConfig
from drakkar_flow.sinks.postgres.sink import SPEC, PostgresSink
from drakkar_flow.testing.conformance import Item, SinkBench, SinkFeatures, SinkSuite
from support.names import unique

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


class Database:
    """A look at the database by other means than the sink: each call on a thread and a connection of its own."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    def run(self, *statements: str) -> list[Any]:
        """Run statements; gives the rows of the last."""

        async def all_of_them() -> list[Any]:
            connection = await asyncpg.connect(self.dsn)
            try:
                for statement in statements[:-1]:
                    await connection.execute(statement)
                return list(await connection.fetch(statements[-1]))
            finally:
                await connection.close()

        return self._elsewhere(all_of_them())

    @staticmethod
    def _elsewhere(work: Coroutine[Any, Any, list[Any]]) -> list[Any]:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, work).result()


class PostgresBench(SinkBench):
    """One table of a schema of its own."""

    spec = SPEC
    features = SinkFeatures(nul=False)

    def __init__(self, dsn: str) -> None:
        self.schema = unique("s").replace("-", "_")
        self.database = Database(dsn)
        self.table = f"{self.schema}.items"
        self.database.run(
            f"CREATE SCHEMA {self.schema}",
            f"CREATE TABLE {self.table} (row serial PRIMARY KEY, n int UNIQUE, text text)",
            "SELECT 1",
        )

    def sink(self, **settings: Any) -> PostgresSink:
        return PostgresSink("main", PostgresSinkConfig(dsn=self.database.dsn, pool_min=1, pool_max=2, **settings))

    def unreachable(self) -> PostgresSink:
        return PostgresSink("main", PostgresSinkConfig(dsn="postgresql://me:secret@127.0.0.1:1/none"))

    def payload(self, item: Any, key: bytes | str | None = None) -> PostgresPayload:
        return PostgresPayload(table=self.table, data=item)

    def odd(self) -> list[Any]:
        self.database.run(
            f"CREATE TABLE {self.schema}.late (n int REFERENCES {self.table} (n) DEFERRABLE INITIALLY DEFERRED)",
            f"CREATE FUNCTION {self.schema}.refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN IF NEW.text = 'raise' THEN RAISE EXCEPTION 'not this one'; END IF;"
            " IF NEW.text = 'sleep' THEN PERFORM pg_sleep(9); END IF; RETURN NEW; END $$",
            f"CREATE TRIGGER picky BEFORE INSERT ON {self.table} FOR EACH ROW EXECUTE FUNCTION {self.schema}.refuse()",
            "SELECT 1",
        )
        return [
            *super().odd(),
            self.payload({"n": 7001, "text": "raise"}),
            self.payload({"n": "seven"}),
            self.payload({"n": 10**30}),
            self.payload({"n": 7002, "text": "nul\0"}),
            self.payload({"n": 7003, "text": "\ud800"}),
            self.payload({"n": 7004, "nothing": 1}),
            PostgresPayload(table="nowhere", data={"n": 1}),
            PostgresPayload(table=f"{self.schema}.late", data={"n": 424242}),
            PostgresPayload(op="upsert", table=self.table, data={"n": 1, "text": "x"}, conflict=["text"]),
        ]

    def read(self) -> list[Item]:
        rows = self.database.run(f"SELECT n, text FROM {self.table} ORDER BY row")
        return [{"n": row["n"], "text": row["text"]} for row in rows]


@pytest.fixture
def bench(postgres: str) -> Iterator[PostgresBench]:
    """A fresh schema, which goes away after the test."""
    made = PostgresBench(postgres)
    yield made
    made.database.run(f"DROP SCHEMA {made.schema} CASCADE", "SELECT 1")


class TestPostgresSink(SinkSuite):
    """The suite."""


@pytest.fixture
async def sink(bench: PostgresBench) -> AsyncIterator[PostgresSink]:
    """A connected sink with a named statement."""
    async with bench.connected(
        bench.sink(statements={"bump": f"UPDATE {bench.table} SET n = n + :by WHERE n = :n"})
    ) as made:
        assert isinstance(made, PostgresSink)
        yield made


def deliveries(*payloads: PostgresPayload) -> list[Delivery]:
    """Deliveries of payloads."""
    return [Delivery(payload, ()) for payload in payloads]


async def test_a_violated_constraint_fails_its_row_alone(bench: PostgresBench, sink: PostgresSink) -> None:
    """The rows around it are written, in order, and no retry is asked for it."""
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch(bench.batch([{"n": n} for n in (1, 2, 1, 3)]))
    assert list(caught.value.failures) == [2]
    assert isinstance(caught.value.failures[2], SinkRejected)
    assert [item["n"] for item in bench.read()] == [1, 2, 3]


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (PostgresPayload(table="a;drop", data={"n": 1}), "'a;drop' is not a name"),
        (PostgresPayload(table="nowhere", data={"n": 1}), "does not exist"),
        (PostgresPayload(table="items", data={"nothing": 1}), "nothing"),
        (PostgresPayload(table="items", data={"n": "one"}), "n"),
        (PostgresPayload(op="statement", statement="bumb", params={}), "there are: bump"),
        (PostgresPayload(op="statement", statement="bump", params={"n": 1}), "needs the params by"),
    ],
)
async def test_d39_what_a_payload_did_wrong_is_said_and_not_tried_again(
    bench: PostgresBench, sink: PostgresSink, payload: PostgresPayload, why: str
) -> None:
    """D-39: names that are no identifiers, unknown tables and columns, values of the wrong type, unknown statements."""
    if payload.table == "items":
        payload.table = bench.table
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch(deliveries(payload))
    (cause,) = caught.value.failures.values()
    assert type(cause) is (SinkMisconfigured if why in ("does not exist", "nothing") else SinkRejected)
    assert why in str(cause)


async def test_every_operation_does_what_its_name_says(bench: PostgresBench, sink: PostgresSink) -> None:
    """In one batch, in order: each sees what the ones before it did."""
    table = bench.table
    await sink.write_batch(
        deliveries(
            PostgresPayload(table=table, data={"n": 1, "text": "a"}),
            PostgresPayload(table=table, data={"n": 2}),
            PostgresPayload(op="upsert", table=table, data={"n": 1, "text": "b"}, conflict=["n"]),
            PostgresPayload(op="upsert", table=table, data={"n": 2}, conflict=["n"]),
            PostgresPayload(op="update", table=table, data={"text": "c"}, where={"n": 2, "text": None}),
            PostgresPayload(op="statement", statement="bump", params={"n": 2, "by": 40}),
        )
    )
    assert sorted((item["n"], item["text"]) for item in bench.read()) == [(1, "b"), (42, "c")]


class Colour(StrEnum):
    """An enumeration."""

    RED = "red"


class Everything(BaseModel):
    """One field for each kind of column."""

    at: datetime
    doc: dict[str, Any]
    raw: str
    tags: list[str]
    colour: Colour
    blob: bytes
    note: Any


async def test_values_find_their_column_types(bench: PostgresBench, sink: PostgresSink) -> None:
    """Mappings and JSON text go to JSON columns, lists to arrays, enumerations as their values."""
    bench.database.run(
        f"CREATE TABLE {bench.schema}.kinds"
        " (at timestamptz, doc jsonb, raw json, tags text[], colour text, blob bytea, note text)",
        "SELECT 1",
    )
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    data = Everything(at=at, doc={"a": [1]}, raw='{"b": 2}', tags=["x"], colour=Colour.RED, blob=b"\0", note={"c": 3})
    await sink.write_batch(deliveries(PostgresPayload(table=f"{bench.schema}.kinds", data=data)))
    (row,) = bench.database.run(f"SELECT * FROM {bench.schema}.kinds")
    assert tuple(row) == (at, '{"a": [1]}', '{"b": 2}', ["x"], "red", b"\0", '{"c":3}')


async def test_a_connection_that_breaks_fails_the_batch_and_the_next_one_works(
    bench: PostgresBench, sink: PostgresSink
) -> None:
    """The server ends all our connections: nothing is rejected, and the pool mends itself."""
    await sink.write_batch(bench.batch([{"n": 1}]))
    bench.database.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        f" AND query LIKE '%{bench.schema}%'"
    )
    for _ in range(2):
        try:
            await sink.write_batch(bench.batch([{"n": 2}]))
            break
        except SinkError:
            continue
    assert [item["n"] for item in bench.read()] == [1, 2]


async def test_a_password_is_in_no_error(bench: PostgresBench) -> None:
    """What can't be reached is named without what opens it."""
    with pytest.raises(StartupError) as caught:
        await bench.unreachable().connect()
    assert "secret" not in str(caught.value)
