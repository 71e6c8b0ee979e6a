"""SQLite sink: rows in tables of one database file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from drakkar_flow.errors import BatchFailed, SinkError, SinkMisconfigured, SinkNotConnected, SinkRejected
from drakkar_flow.kinds.sink import SinkSpec
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.model.record import Record
from drakkar_flow.sinks.clients import never, unusable
from drakkar_flow.sinks.sqlite.payload import SqlitePayload
from drakkar_flow.sinks.sqlite.settings import SqliteSinkConfig
from drakkar_flow.sinks.sqlite.sql import Row, create_statement, insert_statement, make_row
from drakkar_flow.sinks.threads import in_thread

__all__ = ["SPEC", "SqliteSink"]

BUSY_TIMEOUT_S = 5.0
"""Seconds that a write waits for another process's transaction before the batch fails."""

_ROW_ERRORS = frozenset(
    {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG}
)
"""Result codes that concern a row; all others concern the database."""


_LOST = frozenset(
    {
        *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOTADB),
        *(sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_MISUSE),
    }
)
"""Result codes after which the file is opened again."""
_REFUSALS = (SinkRejected, SinkMisconfigured)


class SqliteSink:
    """Inserts one row per payload; a batch is one transaction.

    - The database is in WAL mode, so readers are never blocked.
    - A missing table is created from the first row (unless `create_tables` is off). Fields without a column are
      rejected.
    - A row that can't be inserted fails alone. A full disk or a locked database fails the whole batch, and none of it
      is written.
    - If the file is moved or replaced, the file that is at its path now is opened.

    Args:
        name: the instance's name under `sinks.sqlite`.
        settings: the path of the database.
    """

    def __init__(self, name: str, settings: SqliteSinkConfig) -> None:
        self._name = name
        self._settings = settings
        self._database: _Database | None = None
        self._one_at_a_time = anyio.CapacityLimiter(1)

    async def connect(self) -> None:
        """Open or create the database and check that it can be written.

        Raises:
            StartupError: the file can't be written at present (exit code 1); it is no database, or not writable for
                this user (2).
        """
        if self._database is None:
            self._database = await anyio.to_thread.run_sync(self._open, limiter=self._one_at_a_time)

    async def write_batch(self, batch: Sequence[Delivery]) -> None:
        """Insert the batch in order, in a worker thread, and commit it.

        Raises:
            BatchFailed: some rows failed permanently: SinkRejected, SinkMisconfigured.
            sqlite3.Error: the transaction was refused because of one of several rows; nothing was written.
            SinkNotConnected: before `connect`, or after `close`.
            SinkError: nothing was written.
        """
        if self._database is None:
            raise SinkNotConnected(f"sinks.sqlite.{self._name} is not connected; connect() comes first")
        failures = await in_thread(self._database.write, batch, limiter=self._one_at_a_time)
        if failures:
            raise BatchFailed(dict(sorted(failures.items())))

    async def close(self) -> None:
        """Close the database; safe to call twice and before `connect`."""
        database, self._database = self._database, None
        if database is not None:
            await anyio.to_thread.run_sync(database.close, limiter=self._one_at_a_time)

    def _open(self) -> _Database:
        path = Path(self._settings.path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return _Database(path, self._settings.synchronous, create_tables=self._settings.create_tables)
        except (OSError, sqlite3.Error) as error:
            what = f"the database {path} can't be written: {error}"
            remedy = "give a path that this user may write, or move the file that is no database away"
            raise unusable(f"sinks.sqlite.{self._name}.path", what, remedy, for_good=never(error)) from error


class _Database:
    """The open database; used by one thread at a time."""

    def __init__(self, path: Path, synchronous: str, *, create_tables: bool) -> None:
        self._path = path
        self._synchronous = synchronous
        self._create_tables = create_tables
        self._columns: dict[str, frozenset[str]] = {}
        self._stale = False
        self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
            self._file = _identity(self._path)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _reopen(self) -> None:
        """Leave a file that was moved, replaced or removed: its readers would not see new rows."""
        self._stale = True
        self._columns.clear()
        self._connection.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = self._open()
        self._stale = False

    def write(self, batch: Sequence[Delivery]) -> dict[int, Exception]:
        failures: dict[int, Exception] = {}
        rows: list[tuple[int, Row]] = []
        for index, delivery in enumerate(batch):
            try:
                rows.append((index, make_row(delivery.payload)))
            except SinkRejected as error:
                failures[index] = error
        if rows:
            try:
                if self._stale or _identity(self._path) != self._file:
                    self._reopen()
            except (OSError, sqlite3.Error) as error:
                raise SinkNotConnected(f"SQLite: {error}") from error
            try:
                self._transaction(rows, failures, alone=False)
            except _REFUSALS:
                self._transaction(rows, failures, alone=True)
        return failures

    def close(self) -> None:
        self._connection.close()

    def _transaction(self, rows: list[tuple[int, Row]], failures: dict[int, Exception], *, alone: bool) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            if alone:
                self._insert_alone(rows, failures)
            else:
                self._insert_together(rows)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            if _code(error) not in _ROW_ERRORS:
                self._stale = _code(error) in _LOST
                raise SinkError(f"SQLite: {error}") from error
            if len(rows) > 1:  # it refused the whole transaction, and names no row
                raise
            failures[rows[0][0]] = SinkRejected(f"table {rows[0][1].table}: {error}")
        except BaseException:
            self._roll_back()
            raise

    def _insert_together(self, rows: list[tuple[int, Row]]) -> None:
        for (table, columns), run in groupby((row for _, row in rows), key=lambda row: row[:2]):
            self._insert(table, columns, list(run))

    def _insert_alone(self, rows: list[tuple[int, Row]], failures: dict[int, Exception]) -> None:
        for index, row in rows:
            self._connection.execute("SAVEPOINT one")
            try:
                self._insert(row.table, row.columns, [row])
            except _REFUSALS as error:
                failures[index] = error
                self._connection.execute("ROLLBACK TO one")
                self._columns.pop(row.table, None)
            self._connection.execute("RELEASE one")

    def _insert(self, table: str, columns: tuple[str, ...], rows: list[Row]) -> None:
        try:
            self._require_columns(rows[0])
            self._connection.executemany(insert_statement(table, columns), [row.values for row in rows])
        except (OverflowError, UnicodeEncodeError) as error:
            raise SinkRejected(f"table {table}: {error}") from error
        except sqlite3.Error as error:
            if _code(error) in _ROW_ERRORS and self._connection.in_transaction:
                raise SinkRejected(f"table {table}: {error}") from error
            raise  # of the database, or by RAISE(ROLLBACK), which ended the transaction

    def _require_columns(self, row: Row) -> None:
        """Create the table if that is allowed, and find a column for every field; SQLite ignores case in names."""
        wanted = {name.lower() for name in row.columns}
        if wanted <= self._columns.get(row.table, frozenset()):
            return
        if self._create_tables:
            self._connection.execute(create_statement(row))
        known = frozenset(name.lower() for _, name, *_ in self._connection.execute(f'PRAGMA table_info("{row.table}")'))
        self._columns[row.table] = known
        if not known:
            raise SinkMisconfigured(
                f"table {row.table} does not exist", "create it, or set sinks.sqlite.*.create_tables"
            )
        if missing := [name for name in row.columns if name.lower() not in known]:
            what = f"table {row.table} has no column {', '.join(missing)}"
            raise SinkMisconfigured(what, "add it with ALTER TABLE")

    def _roll_back(self) -> None:
        self._columns.clear()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _wrap(value: Any, _record: Record, name: str, _settings: SqliteSinkConfig) -> SqlitePayload:
    return SqlitePayload(table=name, data=value, sink=name)


SPEC = SinkSpec(
    kind="sqlite",
    payload_type=SqlitePayload,
    settings_type=SqliteSinkConfig,
    make=SqliteSink,
    wrap=_wrap,
    check_payload=lambda payload, _: make_row(payload),
    not_checked="tables that only payloads name (SqlitePayload.table)",
)
"""Spec of the SQLite sink."""
