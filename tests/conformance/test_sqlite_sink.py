"""The SQLite sink keeps every sink's promises."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from conformance.sink_suite import Bench, Item, SinkSuite
from drakkar_flow.config.sinks import SqliteSinkConfig
from drakkar_flow.model.payload import SqlitePayload
from drakkar_flow.sinks.sqlite import SPEC, SqliteSink

pytestmark = pytest.mark.anyio


class SqliteBench(Bench):
    """One table of a database of its own."""

    spec = SPEC

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sink(self) -> SqliteSink:
        return SqliteSink("main", SqliteSinkConfig(path=str(self.folder / "data/main.db")))

    def unreachable(self) -> SqliteSink:
        (self.folder / "text.db").write_text("this is no database, however long one looks at it" * 100)
        return SqliteSink("main", SqliteSinkConfig(path=str(self.folder / "text.db")))

    def payload(self, item: Any, key: bytes | str | None = None) -> SqlitePayload:
        return SqlitePayload(table="items", data=item)

    def read(self) -> list[Item]:
        with closing(sqlite3.connect(self.folder / "data/main.db")) as database:
            return [{"n": n, "text": text} for n, text in database.execute("SELECT n, text FROM items ORDER BY rowid")]


class TestSqliteSink(SinkSuite):
    """The suite."""

    @pytest.fixture
    def bench(self, tmp_path: Path) -> SqliteBench:
        """A fresh directory."""
        return SqliteBench(tmp_path)
