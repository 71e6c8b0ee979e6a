"""Rows are committed by the batch; a bad row fails alone, a bad database fails the batch."""

from __future__ import annotations

import datetime as dt
import enum
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from drakkar_flow.errors import BatchFailed, SinkError, SinkMisconfigured, SinkRejected
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.sinks.sqlite.payload import SqlitePayload
from drakkar_flow.sinks.sqlite.settings import SqliteSinkConfig
from drakkar_flow.sinks.sqlite.sink import SqliteSink
from drakkar_flow.sinks.sqlite.sql import make_row
from support.limits import files_end_at

pytestmark = pytest.mark.anyio


class Colour(enum.StrEnum):
    """An enumeration as users write them."""

    RED = "red"


class Inner(BaseModel):
    """A model inside another value."""

    day: dt.date


class Hit(BaseModel):
    """A model as users write them."""

    id: int
    inner: Inner


class Point(msgspec.Struct):
    """A struct as users write them."""

    x: int
    inner: list[Inner] = []


def batch(*rows: Any, table: str = "t") -> list[Delivery]:
    """Rows for one table."""
    return [Delivery(SqlitePayload(table=table, data=row), ()) for row in rows]


def query(path: Path, sql: str) -> list[Any]:
    """What another connection sees."""
    with closing(sqlite3.connect(path)) as database:
        return database.execute(sql).fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The database file, in a folder that does not exist yet."""
    return tmp_path / "new" / "main.db"


@pytest.fixture
async def sink(path: Path) -> AsyncIterator[SqliteSink]:
    """A connected sink."""
    sink = SqliteSink("main", SqliteSinkConfig(path=str(path)))
    await sink.connect()
    yield sink
    await sink.close()


async def test_a_table_is_made_from_its_first_row(sink: SqliteSink, path: Path) -> None:
    """Python types become SQLite types; nothing is known of None's."""
    row = {"i": 1, "f": 0.5, "s": "x", "b": b"\xff", "t": True, "n": None, "l": [1, {"a": "ü"}]}
    await sink.write_batch(batch(row))

    (sql,) = query(path, "SELECT sql FROM sqlite_master")[0]
    assert sql == 'CREATE TABLE "t" ("i" INTEGER, "f" REAL, "s" TEXT, "b" BLOB, "t" INTEGER, "n", "l" TEXT)'
    assert query(path, "SELECT * FROM t") == [(1, 0.5, "x", b"\xff", 1, None, '[1,{"a":"ü"}]')]


async def test_models_structs_and_rich_values_become_cells(sink: SqliteSink, path: Path) -> None:
    """Nested models become JSON text, dates and the like their text."""
    inner = Inner(day=dt.date(2024, 2, 3))
    await sink.write_batch(batch(Hit(id=1, inner=inner), table="hits"))
    await sink.write_batch(batch(Point(1, [inner]), table="points"))
    await sink.write_batch(
        batch({"d": dt.date(2024, 2, 3), "c": Colour.RED, "m": Decimal("1.50"), "b": bytearray(b"x")})
    )

    assert query(path, "SELECT * FROM hits") == [(1, '{"day":"2024-02-03"}')]
    assert query(path, "SELECT * FROM points") == [(1, '[{"day":"2024-02-03"}]')]
    assert query(path, "SELECT * FROM t") == [("2024-02-03", "red", "1.50", b"x")]


async def test_rows_keep_their_order_across_tables_and_columns(sink: SqliteSink, path: Path) -> None:
    """Changing columns and tables inside a batch does not reorder a table's rows."""
    await sink.write_batch(batch({"a": 0, "b": 0}))
    mixed = [*batch({"a": 1}), *batch({"x": 1}, table="u"), *batch({"b": 2}), *batch({"a": 3}, {"b": 4, "a": 4})]
    await sink.write_batch(mixed)

    assert query(path, "SELECT a, b FROM t ORDER BY rowid") == [(0, 0), (1, None), (None, 2), (3, None), (4, 4)]


@pytest.mark.parametrize(
    ("row", "table", "reason"),
    [
        ({"a": 1, "wide": 2, "b": 3}, "t", "no column wide, b"),
        ({"a;drop": 1}, "t", "not a name for a table or a column"),
        ({"a": 1}, "t;drop", "not a name for a table or a column"),
        ({"a": 1}, "a.b", "not a name"),
        ({"a": 1}, "", "not a name"),
        ({"a\n": 1}, "t", "not a name"),
        ({"a": 1}, "sqlite_x", "reserved"),
        ({}, "t", "no fields"),
        ([1], "t", "not a row"),
        ({"a": 2**70}, "t", "column a: the integer is not in"),
        ({"a": "\ud800"}, "t", "surrogates"),
        ({"a": object()}, "t", "object"),
        ({"a": 1, "A": 2}, "u", "duplicate column"),
    ],
)
async def test_a_bad_row_fails_alone_and_says_why(
    sink: SqliteSink, path: Path, row: Any, table: str, reason: str
) -> None:
    """Its neighbours are written, it is rejected for good, and it leaves no table behind."""
    await sink.write_batch(batch({"a": 0}))
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch([*batch({"a": 1}), *batch(row, table=table), *batch({"a": 2})])

    assert list(caught.value.failures) == [1]
    assert type(caught.value.failures[1]) is (SinkMisconfigured if "no column" in reason else SinkRejected)
    assert reason in str(caught.value.failures[1])
    assert query(path, "SELECT a FROM t ORDER BY rowid") == [(0,), (1,), (2,)]
    assert query(path, "SELECT name FROM sqlite_master") == [("t",)]


async def test_a_table_made_for_a_bad_row_goes_with_it(sink: SqliteSink, path: Path) -> None:
    """The next good row makes the table after its own kind."""
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch(batch({"a": 2**70}, {"a": "x"}))

    assert list(caught.value.failures) == [0]
    assert query(path, "SELECT sql FROM sqlite_master") == [('CREATE TABLE "t" ("a" TEXT)',)]


async def test_only_good_rows_leave_a_table(sink: SqliteSink, path: Path) -> None:
    """When no row of a new table is good, the database stays as it was."""
    with pytest.raises(BatchFailed):
        await sink.write_batch(batch({"a": 2**70}))

    assert query(path, "SELECT sql FROM sqlite_master") == []


async def test_rows_that_break_a_constraint_fail_alone(sink: SqliteSink, path: Path) -> None:
    """Also several of them, and within one run of equal columns."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT NOT NULL)")
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch(batch(*[{"a": a, "b": b} for a, b in [(1, "x"), (1, "y"), (2, None), (3, "z")]]))

    assert list(caught.value.failures) == [1, 2]
    assert query(path, "SELECT a, b FROM t") == [(1, "x"), (3, "z")]


async def test_columns_added_from_outside_are_noticed(sink: SqliteSink, path: Path) -> None:
    """The remedy of the error, ALTER TABLE, needs no restart; names match whatever their case."""
    await sink.write_batch(batch({"a": 0}))
    with pytest.raises(BatchFailed, match="ALTER TABLE"):
        await sink.write_batch(batch({"a": 1, "B": 1}))
    with closing(sqlite3.connect(path)) as database:
        database.execute("ALTER TABLE t ADD COLUMN b")
    await sink.write_batch(batch({"a": 2, "B": 2}))

    assert query(path, "SELECT a, b FROM t") == [(0, None), (2, 2)]


async def test_a_table_dropped_from_outside_is_made_again(sink: SqliteSink, path: Path) -> None:
    """What the sink remembers of a table is not trusted when SQLite says otherwise."""
    await sink.write_batch(batch({"a": 0}))
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE t")
    await sink.write_batch(batch({"a": 1}))

    assert query(path, "SELECT a FROM t") == [(1,)]


async def test_tables_are_only_made_when_allowed(path: Path) -> None:
    """With `create_tables` off a missing table rejects its rows."""
    sink = SqliteSink("main", SqliteSinkConfig(path=str(path), create_tables=False))
    await sink.connect()
    with pytest.raises(BatchFailed, match="create_tables"):
        await sink.write_batch(batch({"a": 0}))
    await sink.close()

    assert query(path, "SELECT * FROM sqlite_master") == []


async def test_a_locked_database_fails_the_batch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be tried again, and then works; nothing of the first try stays."""
    monkeypatch.setattr("drakkar_flow.sinks.sqlite.sink.BUSY_TIMEOUT_S", 0.01)
    sink = SqliteSink("main", SqliteSinkConfig(path=str(path)))
    await sink.connect()
    await sink.write_batch(batch({"a": 0}))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SinkError, match="locked") as caught:
            await sink.write_batch(batch({"a": 1}))
        other.execute("ROLLBACK")
    assert not isinstance(caught.value, SinkRejected | BatchFailed)
    await sink.write_batch(batch({"a": 1}))
    await sink.close()

    assert query(path, "SELECT a FROM t") == [(0,), (1,)]


async def test_a_full_disk_fails_the_batch(sink: SqliteSink, path: Path) -> None:
    """Nothing of the batch stays, and the sink works again when there is room."""
    await sink.write_batch(batch({"a": "first"}))
    with files_end_at(200_000):
        with pytest.raises(SinkError) as caught:
            await sink.write_batch(batch(*[{"a": "x" * 1000}] * 1000))
        assert not isinstance(caught.value, SinkRejected | BatchFailed)
    await sink.write_batch(batch({"a": "last"}))

    assert query(path, "SELECT a FROM t") == [("first",), ("last",)]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("level", ["NORMAL", "FULL"])
async def test_the_database_is_in_wal_mode_with_the_configured_level(path: Path, level: Any) -> None:
    """Readers are not blocked, and a power cut costs what the configuration says."""
    sink = SqliteSink("main", SqliteSinkConfig(path=str(path), synchronous=level))
    await sink.connect()
    connection = sink._database._connection  # type: ignore[union-attr]  # it is open
    assert connection.execute("PRAGMA synchronous").fetchone() == ({"NORMAL": 1, "FULL": 2}[level],)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    await sink.close()


def test_a_model_that_raises_is_rejected() -> None:
    """A row's values come from the user's code, which may raise anything."""

    class Hostile(Hit):
        def model_dump(self, **_: Any) -> dict[str, Any]:
            raise KeyError("boom")

    with pytest.raises(SinkRejected, match="KeyError"):
        make_row(SqlitePayload(table="t", data=Hostile(id=1, inner=Inner(day=dt.date(2024, 1, 1)))))
