"""Values as JSON has them go into typed PostgreSQL columns as they are, or are refused: on a real server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from ipaddress import ip_address
from pathlib import PurePath
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from pydantic import AnyUrl, BaseModel

from conformance.test_postgres_sink import PostgresBench, deliveries
from drakkar_flow import PostgresPayload
from drakkar_flow.errors import BatchFailed, SinkRejected
from drakkar_flow.sinks.postgres.sink import PostgresSink

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


class Size(IntEnum):
    """A number with a name."""

    BIG = 3


class Mood(Enum):
    """A text with a name."""

    SAD = "sad"


class Tint(str, Enum):  # noqa: UP042  (as users write it)
    """A text with a name, of the older kind."""

    RED = "red"


class Point(BaseModel):
    """A composite value."""

    x: int
    y: float


ID = "00000000-0000-0000-0000-000000000005"
TYPES = [
    "CREATE TYPE {0}.mood AS ENUM ('sad', 'glad')",
    "CREATE DOMAIN {0}.price AS numeric CHECK (value > 0)",
    "CREATE DOMAIN {0}.net AS {0}.price",
    "CREATE TYPE {0}.point AS (x int, y numeric, at timestamptz)",
]
TAKEN: list[tuple[str, Any, str]] = [
    ("numeric", 0.1, "0.1"),
    ("numeric", 1e22, "10000000000000000000000"),
    ("numeric", 7, "7"),
    ("numeric", 2**70, str(2**70)),
    ("numeric", "0.10", "0.10"),
    ("numeric", "1e3", "1000"),
    ("numeric", Decimal("0.100"), "0.100"),
    ("numeric", True, "1"),
    ("numeric", float("nan"), "NaN"),
    ("numeric(6,2)", 0.1, "0.10"),
    ("{0}.price", 0.1, "0.1"),
    ("{0}.net", "0.1", "0.1"),
    ("int4", 7, "7"),
    ("int4", "-7", "-7"),
    ("int4", 7.0, "7"),
    ("int4", Decimal("7.0"), "7"),
    ("int4", True, "1"),
    ("int4", Size.BIG, "3"),
    ("int8", 2**63 - 1, str(2**63 - 1)),
    ("int2", -(2**15), "-32768"),
    ("oid", 2**32 - 1, str(2**32 - 1)),
    ("float8", 0.1, "0.1"),
    ("float8", 7, "7"),
    ("float8", "0.1", "0.1"),
    ("float8", Decimal("0.1"), "0.1"),
    ("float8", float("inf"), "Infinity"),
    ("float8", "NaN", "NaN"),
    ("float4", 0.1, "0.1"),
    ("bool", True, "true"),
    ("bool", 0, "false"),
    ("bool", "true", "true"),
    ("text", "Grüße", "Grüße"),
    ("text", 42, "42"),
    ("text", 0.1, "0.1"),
    ("text", True, "true"),
    ("text", Decimal("0.10"), "0.10"),
    ("text", UUID(ID), ID),
    ("text", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
    ("text", b"bytes", "bytes"),
    ("text", {"a": [1]}, '{"a":[1]}'),
    ("text", Mood.SAD, "sad"),
    ("text", Tint.RED, "red"),
    ("text", AnyUrl("http://h/a"), "http://h/a"),
    ("text", PurePath("/a/b"), "/a/b"),
    ("jsonb", {"at": ip_address("10.0.0.1"), "url": AnyUrl("http://h/a")}, '{"at": "10.0.0.1", "url": "http://h/a"}'),
    ("varchar(3)", 123, "123"),
    ("bytea", b"\xff\x00", "\\xff00"),
    ("bytea", memoryview(b"\xff"), "\\xff"),
    ("bytea", "\\xff00", "\\xff00"),
    ("uuid", ID, ID),
    ("uuid", UUID(ID), ID),
    ("timestamptz", "2026-01-02T03:04:05Z", "2026-01-02 03:04:05+00"),
    ("timestamptz", "2026-01-02T03:04:05.678+05:00", "2026-01-01 22:04:05.678+00"),
    ("timestamptz", "2026-01-02 03:04:05", "2026-01-02 03:04:05+00"),
    ("timestamptz", "2026-01-02", "2026-01-02 00:00:00+00"),
    ("timestamptz", date(2026, 1, 2), "2026-01-02 00:00:00+00"),
    ("timestamptz", datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2))), "2026-01-01 22:00:00+00"),
    ("timestamptz", "infinity", "infinity"),
    ("timestamp", "2026-01-02T03:04:05", "2026-01-02 03:04:05"),
    ("timestamp", "2026-01-02T03:04:05+05:00", "2026-01-01 22:04:05"),
    ("timestamp", datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02 03:00:00"),
    ("timestamp", "2026-01-02", "2026-01-02 00:00:00"),
    ("date", "2026-01-02", "2026-01-02"),
    ("date", date(2026, 1, 2), "2026-01-02"),
    ("date", "2026-01-02T00:00:00Z", "2026-01-02"),
    ("date", datetime(2026, 1, 2), "2026-01-02"),
    ("time", "03:04:05", "03:04:05"),
    ("time", time(3, 4), "03:04:00"),
    ("timetz", "03:04:05+02:00", "03:04:05+02"),
    ("interval", timedelta(days=1), "1 day"),
    ("interval", "P1DT2H", "1 day 02:00:00"),
    ("interval", "1 mon 3 days", "1 mon 3 days"),
    ("json", {"a": 0.1}, '{"a":0.1}'),
    ("jsonb", [1, None, "x"], '[1, null, "x"]'),
    ("jsonb", '{"a": 1}', '{"a": 1}'),
    ("jsonb", 7, "7"),
    ("jsonb", Point(x=1, y=0.1), '{"x": 1, "y": 0.1}'),
    ("inet", "10.0.0.1", "10.0.0.1/32"),
    ("inet", "10.0.0.1/24", "10.0.0.1/24"),
    ("inet", ip_address("::1"), "::1/128"),
    ("cidr", "10.0.0.0/8", "10.0.0.0/8"),
    ("macaddr", "08:00:2b:01:02:03", "08:00:2b:01:02:03"),
    ("macaddr8", "08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03:04:05"),
    ("{0}.mood", "glad", "glad"),
    ("{0}.mood", Mood.SAD, "sad"),
    ("bit(3)", "101", "101"),
    ("varbit", "10101", "10101"),
    ("money", "7.5", "$7.50"),
    ("money", 0.1, "$0.10"),
    ("xml", "<a/>", "<a/>"),
    ("tsvector", "a b", "'a' 'b'"),
    ("pg_lsn", "16/B374D848", "16/B374D848"),
    ("int4range", "[1,5)", "[1,5)"),
    ("int4range", [1, 5], "[1,5)"),
    ("int4range", asyncpg.Range(1, 5), "[1,5)"),
    ("numrange", [0.1, None], "[0.1,)"),
    ("tstzrange", ["2026-01-02T00:00:00Z", "2026-01-03"], '["2026-01-02 00:00:00+00","2026-01-03 00:00:00+00")'),
    ("int4multirange", "{[1,3),[5,7)}", "{[1,3),[5,7)}"),
    ("int4multirange", [[1, 3], [5, 7]], "{[1,3),[5,7)}"),
    ("{0}.point", {"x": 1, "y": 0.1, "at": "2026-01-02T00:00:00Z"}, '(1,0.1,"2026-01-02 00:00:00+00")'),
    ("{0}.point", Point(x=1, y=0.1), "(1,0.1,)"),
    ("{0}.point", [1, 0.1, None], "(1,0.1,)"),
    ("point", (1, 2), "(1,2)"),
    ("int4[]", [1, None, "3"], "{1,NULL,3}"),
    ("int4[]", [[1, 2], [3, 4]], "{{1,2},{3,4}}"),
    ("numeric[]", [0.1, "0.2", Decimal("0.3")], "{0.1,0.2,0.3}"),
    ("timestamptz[]", ["2026-01-02T03:04:05Z", "infinity"], '{"2026-01-02 03:04:05+00",infinity}'),
    ("uuid[]", [ID, UUID(ID)], f"{{{ID},{ID}}}"),
    ("text[]", ["a,b", 'q"', 1, True], '{"a,b","q\\"",1,true}'),
    ("text[]", (), "{}"),
    ("jsonb[]", [{"a": 1}, [1, 2]], '{"{\\"a\\": 1}","[1, 2]"}'),
    ("interval[]", ["P1D", timedelta(hours=1)], '{"1 day",01:00:00}'),
    ("{0}.mood[]", ["sad", Mood.SAD], "{sad,sad}"),
    ("{0}.price[]", [0.1, "0.2"], "{0.1,0.2}"),
    ("int4range[]", ["[1,2)"], '{"[1,2)"}'),
]
REFUSED: list[tuple[str, Any, str]] = [
    ("numeric", "a lot", "not a number"),
    ("numeric", [1], "use a number"),
    ("numeric", "1_000", "not a number"),
    ("numeric", "1e999999999", "more digits"),
    ("int4", 0.5, "not an integer"),
    ("int4", "seven", "not an integer"),
    ("int4", "1_000", "not an integer"),
    ("int4", float("nan"), "not an integer"),
    ("int4", 2**31, "not in -2147483648 to 2147483647"),
    ("int8", 2**63, "not in"),
    ("int4", UUID(ID), "use a number"),
    ("float8", 2**53 + 1, "numeric column"),
    ("float8", "1e400", "numeric column"),
    ("float4", 2**24 + 1, "numeric column"),
    ("bool", 2, "true or false"),
    ("bool", "yes", "true or false"),
    ("text", "a\0b", "NUL"),
    ("text[]", ["a\0b"], "NUL"),
    ("text", b"\xff", "bytea"),
    ("bytea", "aGVsbG8=", "base64"),
    ("bytea", "\\xfg", "hexadecimal"),
    ("uuid", "no uuid", "not a UUID"),
    ("uuid", 5, "UUID"),
    ("timestamptz", "yesterday", "ISO 8601"),
    ("timestamptz", 1_760_000_000, "convert numbers"),
    ("date", "2026-01-02T03:04:05Z", "time of day"),
    ("date", datetime(2026, 1, 2, 3), "time of day"),
    ("time", "03:04:05+02:00", "offset"),
    ("interval", 90, "convert numbers"),
    ("jsonb", float("nan"), ""),
    ("jsonb", {"a": float("inf"), "b": None}, ""),
    ("jsonb", "{no json", ""),
    ("inet", 7, "use text"),
    ("inet", "nowhere", "parsed the values for c0"),
    ("int4[]", "{1,2}", "use a list"),
    ("int4[]", [1, 0.5], "not an integer"),
    ("int4[]", {"a": 1}, "use a list"),
    ("{0}.mood", "angry", "parsed the values for c0"),
    ("{0}.price", -1, ""),
    ("{0}.point", {"x": 1, "z": 2}, "no attribute z"),
    ("{0}.point", {"x": 0.5}, ""),
    ("int4range", [1, 2, 3], "lower bound"),
    ("varchar(3)", 1234, ""),
]


@pytest.fixture
def bench(postgres: str) -> Iterator[PostgresBench]:
    """A fresh schema with types of its own."""
    made = PostgresBench(postgres)
    made.database.run(*(statement.format(made.schema) for statement in TYPES), "SELECT 1")
    yield made
    made.database.run(f"DROP SCHEMA {made.schema} CASCADE", "SELECT 1")


@asynccontextmanager
async def columns(bench: PostgresBench, *types: str) -> AsyncIterator[tuple[str, PostgresSink]]:
    """A table with columns c0, c1, ... of these types, and a connected sink."""
    table = f"{bench.schema}.t"
    declared = ", ".join(f"c{n} {each.format(bench.schema)}" for n, each in enumerate(types))
    bench.database.run(f"CREATE TABLE {table} (row serial, {declared})", "SELECT 1")
    async with bench.connected(bench.sink(statements={"put": f"INSERT INTO {table} (c0) VALUES (:v)"})) as sink:
        assert isinstance(sink, PostgresSink)
        yield table, sink


async def test_f11_values_are_stored_as_they_are(bench: PostgresBench) -> None:
    """Each type takes what a person would expect, without a change of the value; all columns in one row."""
    async with columns(bench, *(each for each, _, _ in TAKEN)) as (table, sink):
        row = {f"c{n}": value for n, (_, value, _) in enumerate(TAKEN)}
        await sink.write_batch(deliveries(PostgresPayload(table=table, data=row)))
        names = ", ".join(f"{name}::text" for name in row)
        (found,) = bench.database.run("SET TimeZone TO 'UTC'", f"SELECT {names} FROM {table}")
    seen = [(each, value, text) for (each, value, _), text in zip(TAKEN, found, strict=True)]
    assert seen == TAKEN


@pytest.mark.parametrize(("declared", "value", "why"), REFUSED)
async def test_f11_what_would_change_is_refused_alone(
    bench: PostgresBench, declared: str, value: Any, why: str
) -> None:
    """The reason names the column, its type and the type of the value, and never the value."""
    async with columns(bench, declared) as (table, sink):
        good = PostgresPayload(table=table, data={"c0": None})
        with pytest.raises(BatchFailed) as caught:
            await sink.write_batch(deliveries(good, PostgresPayload(table=table, data={"c0": value}), good))
        assert len(bench.database.run(f"SELECT row FROM {table}")) == 2
    (index, cause), *others = caught.value.failures.items()
    assert (index, others) == (1, [])
    assert isinstance(cause, SinkRejected)
    assert why in str(cause)
    if why and "parsed" not in why:
        assert str(cause).startswith("c0 (")
        assert f"does not take this {type(value).__name__}: " in str(cause)
    assert not isinstance(value, str) or value not in str(cause)


async def test_f11_rows_of_a_batch_may_hold_one_column_in_several_forms(bench: PostgresBench) -> None:
    """In their order, by each operation."""
    async with columns(bench, "interval", "{0}.mood", "numeric") as (table, sink):
        ranges = [timedelta(hours=1), "PT2H", None, "3 hours", timedelta(hours=4)]
        await sink.write_batch(
            deliveries(
                *(PostgresPayload(table=table, data={"c0": span, "c1": "sad", "c2": 0.1}) for span in ranges),
                PostgresPayload(op="update", table=table, data={"c2": 0.2}, where={"c0": "PT2H", "c1": "sad"}),
                PostgresPayload(op="statement", statement="put", params={"v": "PT5H"}),
            )
        )
        rows = bench.database.run(f"SELECT c0, c2 FROM {table} ORDER BY row")
    assert [row["c0"] and row["c0"].seconds // 3600 for row in rows] == [1, 2, None, 3, 4, 5]
    assert [row["c2"] for row in rows] == [Decimal(text) if text else None for text in ("0.1", "0.2", *["0.1"] * 3, "")]


async def test_g7_a_value_is_a_value_wherever_it_stands(bench: PostgresBench) -> None:
    """In WHERE, in params and in text that the server parses, nothing of it is SQL."""
    evil = "'; DROP TABLE t; --"
    async with columns(bench, "text", "interval") as (table, sink):
        await sink.write_batch(
            deliveries(
                PostgresPayload(table=table, data={"c0": "a"}),
                PostgresPayload(op="update", table=table, data={"c0": "x"}, where={"c0": evil}),
                PostgresPayload(op="update", table=table, data={"c0": "x"}, where={"c0": {"$ne": None}}),
                PostgresPayload(op="statement", statement="put", params={"v": evil}),
            )
        )
        with pytest.raises(BatchFailed):
            await sink.write_batch(deliveries(PostgresPayload(table=table, data={"c1": evil})))
        found = [row["c0"] for row in bench.database.run(f"SELECT c0 FROM {table} ORDER BY row")]
    assert found == ["a", evil]


async def test_g18_the_reason_of_a_refusal_quotes_no_row(bench: PostgresBench) -> None:
    """It names the error, the table and the constraint; the server's words are its detail."""
    secret = "private-4711"
    raising = "BEGIN RAISE EXCEPTION 'bad row %', NEW.c0 USING ERRCODE = '23514'; END"
    async with columns(bench, "text UNIQUE CHECK (length(c0) < 20)", "{0}.mood", "int NOT NULL DEFAULT 1") as (
        table,
        sink,
    ):
        bench.database.run(
            f"CREATE FUNCTION {bench.schema}.raising() RETURNS trigger LANGUAGE plpgsql AS $$ {raising} $$",
            f"CREATE TRIGGER t BEFORE INSERT ON {table} FOR EACH ROW WHEN (NEW.c2 = 7)"
            f" EXECUTE FUNCTION {bench.schema}.raising()",
            "SELECT 1",
        )
        rows: list[dict[str, Any]] = [
            {"c0": secret},
            {"c0": secret},
            {"c0": secret * 2},
            {"c1": secret},
            {"c0": secret + "x", "c2": None},
            {"c0": secret + "y", "c2": 7},
        ]
        with pytest.raises(BatchFailed) as caught:
            await sink.write_batch(deliveries(*(PostgresPayload(table=table, data=row) for row in rows)))
    failures = caught.value.failures
    assert list(failures) == [1, 2, 3, 4, 5]
    assert not any(secret in str(cause) for cause in failures.values())
    assert secret not in str(caught.value)
    assert all(isinstance(cause, SinkRejected) and secret in cause.detail for cause in failures.values())
    assert "t_c0_key" in str(failures[1])
    assert "t_c0_check" in str(failures[2])
    assert json.dumps(str(failures[5])) == '"PostgreSQL: CheckViolationError (23514)"'
