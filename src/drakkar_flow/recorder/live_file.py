"""Live file: the SQLite file that this process writes, and its sealing.

Exactly one connection writes and checkpoints: two can corrupt a WAL file in SQLite before 3.51.3. Each table is written
by one statement: after every statement the thread waits for the interpreter's lock, and many short waits beside a busy
thread add up to a second.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from drakkar_flow.recorder.fold.folder import Batch
from drakkar_flow.recorder.fold.ticks import fold
from drakkar_flow.recorder.place import LIVE, SEALED, file_time, side_of
from drakkar_flow.recorder.schema import APPLICATION_ID, COLUMNS, CREATE, TABLES, VERSION, insert, rows_per_statement
from drakkar_flow.recorder.side import write_side
from drakkar_flow.storage.sqlite import connect, private_file

__all__ = ["LiveFile", "check_identity", "fold_ticks", "seal_left_over", "sealed_path"]


class LiveFile:
    """One file from its begin to its sealing."""

    def __init__(self, directory: Path, us: int, meta: Mapping[str, Any]) -> None:
        """Make the file.

        Raises:
            OSError, sqlite3.Error: it can't be made.
        """
        self.began_us = us
        self.id = uuid4().hex[:16]
        self.path = directory / f"{file_time(us)}{LIVE}"
        self._inode = private_file(self.path, new=True).st_ino
        try:
            self._connection = connect(self.path)
            self._create({"file": self.id, "began_us": us, "ended": "open", **meta})
        except BaseException:
            self.discard()
            raise

    def _create(self, meta: Mapping[str, Any]) -> None:
        execute = self._connection.execute
        execute("PRAGMA journal_mode = WAL")
        execute("BEGIN IMMEDIATE")
        for statement in CREATE:
            execute(statement)
        rows = [value for item in meta.items() for value in item]
        execute(f"INSERT INTO meta VALUES {','.join(['(?,?)'] * len(meta))}", rows)  # noqa: S608 - no values
        execute("COMMIT")

    @property
    def size(self) -> int:
        """Size in bytes, without what the WAL has beyond it."""
        with suppress(OSError):
            return self.path.stat().st_size
        return 0

    @property
    def is_there(self) -> bool:
        """False if the file was removed or replaced: SQLite would go on with one that has no name."""
        try:
            return self.path.stat().st_ino == self._inode
        except OSError:
            return False

    def write(self, batch: Batch) -> None:
        """Write the rows in one transaction.

        Raises:
            sqlite3.Error: they were not written, none of them.
        """
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            for table in TABLES:
                rows, most = batch.get(table, ()), rows_per_statement(table)
                for start in range(0, len(rows), most):
                    part = rows[start : start + most]
                    execute(insert(table, len(part)), [value for row in part for value in row])
            execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                execute("ROLLBACK")
            raise

    def fold_ticks(self, before: int, span: int) -> None:
        """Add up the ticks before a second to longer spans."""
        fold_ticks(self._connection, before, span)

    def seal(self, ended: str, us: int) -> Path:
        """Close the file permanently, and return its new path.

        Raises:
            OSError, sqlite3.Error: it stays as it is.
        """
        return _seal(self._connection, self.path, ended, us)

    def discard(self) -> None:
        """Close the connection as it is; the file stays, and is sealed later."""
        with suppress(AttributeError, sqlite3.Error):
            self._connection.close()


def seal_left_over(path: Path) -> Path:
    """Seal a file whose process has ended without doing it.

    Raises:
        OSError, sqlite3.Error, ValueError: it is damaged, foreign or of a newer version.
    """
    connection = connect(path)
    try:
        check_identity(connection)
        times = [
            connection.execute(f"SELECT max({column}) FROM {table}").fetchone()[0] or 0  # noqa: S608 - ours
            for table, column in (("ticks", "second * 1000000"), ("events", "key >> 4"), ("spans", "key >> 4"))
        ]
        began = connection.execute("SELECT value FROM meta WHERE name = 'began_us'").fetchone()
        if began is None:
            raise ValueError("it has no identity")
        ended = connection.execute("SELECT value FROM meta WHERE name = 'ended'").fetchone()
        how = "unclean" if ended is None or ended[0] == "open" else ended[0]
        return _seal(connection, path, how, max(*times, began[0]))
    finally:
        with suppress(sqlite3.Error):
            connection.close()


def check_identity(connection: sqlite3.Connection) -> None:
    """Check that a file is a recording that this version reads.

    Raises:
        ValueError: it is not; the text says why.
        sqlite3.Error: it is damaged.
    """
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise ValueError("it is no recording of drakkar-flow")
    if (version := connection.execute("PRAGMA user_version").fetchone()[0]) > VERSION:
        raise ValueError(f"it has schema version {version}; this version of drakkar-flow reads up to {VERSION}")


def sealed_path(path: Path) -> Path:
    """Return the path that a live file gets when it is sealed."""
    return path.with_name(path.name.removesuffix(LIVE) + SEALED)


def fold_ticks(connection: sqlite3.Connection, before: int, span: int) -> None:
    """Add up the ticks before a second to longer spans, in one transaction."""
    columns = ",".join(COLUMNS["ticks"])
    before -= before % span
    chosen = "FROM ticks WHERE second < ? AND span < ?"
    rows = connection.execute(f"SELECT {columns} {chosen}", (before, span)).fetchall()
    if not rows:
        return
    folded = fold(rows, span)
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(f"DELETE {chosen}", (before, span))
        most = rows_per_statement("ticks")
        for start in range(0, len(folded), most):
            part = folded[start : start + most]
            connection.execute(insert("ticks", len(part)), [value for row in part for value in row])
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _seal(connection: sqlite3.Connection, path: Path, ended: str, us: int) -> Path:
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('ended', ?), ('ended_us', ?)", (ended, us))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0] != "delete":
        raise OSError("a reader has it open")
    connection.close()
    _sync(path)
    sealed = sealed_path(path)
    write_side(path, side_of(sealed))
    path.rename(sealed)
    _sync(path.parent)
    return sealed


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
