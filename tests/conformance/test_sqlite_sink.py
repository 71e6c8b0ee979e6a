"""The SQLite sink keeps every sink's promises."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from drakkar_flow.sinks.sqlite.payload import SqlitePayload
from drakkar_flow.sinks.sqlite.settings import SqliteSinkConfig
from drakkar_flow.sinks.sqlite.sink import SPEC, SqliteSink
from drakkar_flow.testing.conformance import Item, SinkBench, SinkFeatures, SinkSuite, deliver

pytestmark = pytest.mark.anyio


class SqliteBench(SinkBench):
    """One table of a database of its own."""

    spec = SPEC
    features = SinkFeatures(waits=False)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sink(self) -> SqliteSink:
        return SqliteSink("main", SqliteSinkConfig(path=str(self.folder / "data/main.db")))

    def unreachable(self) -> SqliteSink:
        (self.folder / "text.db").write_text("this is no database, however long one looks at it" * 100)
        return SqliteSink("main", SqliteSinkConfig(path=str(self.folder / "text.db")))

    def payload(self, item: Any, key: bytes | str | None = None) -> SqlitePayload:
        return SqlitePayload(table="items", data=item)

    def odd(self) -> list[Any]:
        (self.folder / "data").mkdir(exist_ok=True)
        with closing(sqlite3.connect(self.folder / "data/main.db")) as database:
            database.executescript(
                """
                CREATE TABLE items (n INTEGER UNIQUE, text TEXT);
                CREATE TRIGGER abort BEFORE INSERT ON items WHEN NEW.text = 'abort'
                    BEGIN SELECT RAISE(ABORT, 'not this one'); END;
                CREATE TRIGGER roll_back BEFORE INSERT ON items WHEN NEW.text = 'roll back'
                    BEGIN SELECT RAISE(ROLLBACK, 'none of these'); END;
                CREATE TABLE other (n INTEGER, json TEXT CHECK (json_valid(json)));
                CREATE VIEW seen AS SELECT n FROM items;
                """
            )
        return [
            *super().odd(),
            self.payload({"n": 7001, "text": "abort"}),
            self.payload({"n": 7002, "text": "roll back"}),
            self.payload({"n": 2**70}),
            self.payload({"n": 7003, "text": "\ud800"}),
            self.payload({"n": 7004, "nothing": 1}),
            SqlitePayload(table="other", data={"n": 1, "json": "{"}),
            SqlitePayload(table="seen", data={"n": 1}),
            SqlitePayload(table="a b", data={"n": 1}),
        ]

    def read(self) -> list[Item]:
        with closing(sqlite3.connect(self.folder / "data/main.db")) as database:
            return [{"n": n, "text": text} for n, text in database.execute("SELECT n, text FROM items ORDER BY rowid")]


class TestSqliteSink(SinkSuite):
    """The suite."""

    @pytest.fixture
    def bench(self, tmp_path: Path) -> SqliteBench:
        """A fresh directory."""
        return SqliteBench(tmp_path)

    @pytest.mark.parametrize("how", ["removed", "replaced"])
    async def test_f7_a_database_that_is_replaced_is_left_for_the_new_one(self, bench: SqliteBench, how: str) -> None:
        """What went on into the old file nobody would ever see."""
        path = bench.folder / "data/main.db"
        async with bench.connected() as sink:
            await sink.write_batch(bench.batch([{"n": 0, "text": "old"}]))
            for each in path.parent.glob("main.db*"):
                each.rename(bench.folder / each.name)
            if how == "replaced":
                with closing(sqlite3.connect(path)) as database:
                    database.execute("CREATE TABLE items (n INTEGER, text TEXT)")
            delivered = await deliver(sink, SPEC, [bench.payload({"n": 1, "text": "new"})])

        assert delivered.failures == []
        assert bench.read() == [{"n": 1, "text": "new"}]

    async def test_f7_a_directory_that_is_gone_is_made_again(self, bench: SqliteBench) -> None:
        """With all that is in it."""
        async with bench.connected() as sink:
            await sink.write_batch(bench.batch([{"n": 0, "text": "old"}]))
            shutil.rmtree(bench.folder / "data")
            await sink.write_batch(bench.batch([{"n": 1, "text": "new"}]))

        assert bench.read() == [{"n": 1, "text": "new"}]
