"""Cache file: the SQLite file of one worker's cache. One connection writes it, another one reads.

The write of a batch is one statement: after every statement the thread waits for the interpreter's lock.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple

from drakkar_flow.kernel.cache_entries import CacheEntry
from drakkar_flow.kernel.hybrid_clock import latest_stamp, stamp_at
from drakkar_flow.storage.sqlite import MAX_VARIABLES, connect, private_file

__all__ = ["TOMBSTONE_MS", "CacheFile", "Cleaned", "Cursor", "open_file"]

APPLICATION_ID: Final = 0x444B4643
NAME: Final = "cache-1.sqlite"  # the number is the schema's version, so that an older program finds its file
TOMBSTONE_MS: Final = 24 * 3600 * 1000
"""Milliseconds for which a deleted key is remembered."""
_COLUMNS: Final = ("key", "scope", "data", "expires_ms", "stamp", "origin")
_ROWS = MAX_VARIABLES // len(_COLUMNS)
_BATCH = 1000  # rows removed by one statement
_CREATE = (
    f"PRAGMA application_id = {APPLICATION_ID}",
    """CREATE TABLE IF NOT EXISTS entries(
        key TEXT PRIMARY KEY, scope TEXT NOT NULL, data BLOB, expires_ms INTEGER, stamp INTEGER NOT NULL,
        origin TEXT NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS entries_stamp ON entries(stamp)",
    "CREATE INDEX IF NOT EXISTS entries_expires ON entries(expires_ms) WHERE expires_ms IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS entries_deleted ON entries(stamp) WHERE data IS NULL",
    "CREATE INDEX IF NOT EXISTS entries_shared ON entries(origin, key) WHERE scope IN ('cluster', 'global')",
    """CREATE TABLE IF NOT EXISTS peers(
        peer TEXT PRIMARY KEY, generation TEXT, base INTEGER, seq INTEGER, whole INTEGER, row INTEGER
    )""",
)
_SELECT = f"SELECT {','.join(_COLUMNS)} FROM entries"  # noqa: S608 - no values
_UNUSABLE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Cleaned(NamedTuple):
    """Rows that were removed: expired ones, and the oldest of a file that was too large."""

    expired: int
    evicted: int


class Cursor(NamedTuple):
    """Place in the change files of a peer: the files up to `seq` of its `generation` are read.

    `base` is the first file of the snapshot that they continue; `whole` is True once all of that snapshot is read.
    `row` is the number of entries of the next file that are read.
    """

    generation: str = ""
    base: int = 0
    seq: int = -1
    whole: bool = False
    row: int = 0


class CacheFile:
    """The open file. `read` belongs to one thread; the rest is safe from any, one transaction at a time.

    Raises:
        sqlite3.Error, OSError: from every method; nothing was written then.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self.used_at_ms = _used_at_ms(path)
        """Time of the last write before this one opened it."""
        private_file(path)
        self._connection = connect(path)
        try:
            execute = self._connection.execute
            (found,) = execute("PRAGMA application_id").fetchone()
            if found not in (0, APPLICATION_ID):
                raise sqlite3.DatabaseError("it is no cache of drakkar-flow")
            execute("PRAGMA journal_mode = WAL")
            with self._transaction():
                for statement in _CREATE:
                    execute(statement)
            self._reader = connect(path, "ro")
        except BaseException:
            self._connection.close()
            raise

    def last_stamp(self) -> int:
        """Return the greatest stamp; 0 if the file is empty."""
        return int(self._connection.execute("SELECT coalesce(max(stamp), 0) FROM entries").fetchone()[0])

    def write(self, entries: Sequence[CacheEntry], now_ms: int, *, travelling: bool) -> int:
        """Write changes, the newer one of each key; returns the number of rows that changed.

        A deleted key of the scope LOCAL is removed; others stay as tombstones, if they are `travelling` to peers.
        """
        latest = latest_stamp(now_ms)
        connection = self._connection
        with self._transaction():
            changed = self._upsert(entries, latest)
            kept = "AND scope = 'local'" if travelling else ""
            connection.execute(f"DELETE FROM entries WHERE data IS NULL {kept}")  # noqa: S608 - no values
            if travelling:
                connection.execute("UPDATE entries SET scope = 'global' WHERE data IS NULL AND scope = ''")
        return changed

    def take(self, peer: str, entries: Sequence[CacheEntry], cursor: Cursor, now_ms: int) -> int:
        """Write the entries of a peer that win, and the place they were read to; returns how many won."""
        with self._transaction():
            changed = self._upsert(entries, latest_stamp(now_ms))
            self._connection.execute("INSERT OR REPLACE INTO peers VALUES (?,?,?,?,?,?)", (peer, *cursor))
        return changed

    def cursor(self, peer: str) -> Cursor:
        """Return the place to which the change files of a peer were read."""
        query = "SELECT generation, base, seq, whole, row FROM peers WHERE peer = ?"
        row = self._connection.execute(query, (peer,)).fetchone()
        return Cursor() if row is None else Cursor(row[0], row[1], row[2], bool(row[3]), row[4])

    def shared(self, origin: str, after: str, most: int) -> list[CacheEntry]:
        """Return the entries of a worker that travel, with keys greater than `after`, in the order of keys."""
        query = f"{_SELECT} WHERE origin = ? AND scope IN ('cluster', 'global') AND key > ? ORDER BY key LIMIT ?"
        return [_entry(row) for row in self._connection.execute(query, (origin, after, most))]

    def drop_shared(self) -> None:
        """Remove all entries that travel: other workers have forgotten which of them were deleted."""
        with self._transaction():
            self._connection.execute("DELETE FROM entries WHERE scope IN ('cluster', 'global')")
            self._connection.execute("DELETE FROM peers")

    def drop(self, entries: Sequence[CacheEntry]) -> None:
        """Remove entries, unless they have changed."""
        with self._transaction():
            for entry in entries:
                self._connection.execute(
                    "DELETE FROM entries WHERE key = ? AND stamp = ? AND origin = ?",
                    (entry.key, entry.stamp, entry.origin),
                )

    def read(self, keys: Sequence[str]) -> dict[str, CacheEntry]:
        """Return the entries of keys."""
        marks = ",".join("?" * len(keys))
        return {row[0]: _entry(row) for row in self._reader.execute(f"{_SELECT} WHERE key IN ({marks})", keys)}

    def clean(self, now_ms: int, max_size: int) -> Cleaned:
        """Remove expired entries and old tombstones; then, if the file is too large, the oldest entries."""
        expired = self._remove("expires_ms <= ?", now_ms)
        self._remove("data IS NULL AND stamp < ?", stamp_at(now_ms - TOMBSTONE_MS))
        evicted = 0
        while (size := self.used()) > max_size:
            count = max(1, int(self.count() * (1 - 0.9 * max_size / size)))
            inner = "SELECT key FROM entries ORDER BY stamp LIMIT ?"
            with self._transaction():
                delete = f"DELETE FROM entries WHERE key IN ({inner})"  # noqa: S608 - no values
                removed = self._connection.execute(delete, (min(count, 10 * _BATCH),)).rowcount
            if not removed:
                break
            evicted += removed
        return Cleaned(expired, evicted)

    def count(self) -> int:
        """Return the number of entries, without tombstones."""
        return int(self._connection.execute("SELECT count(*) FROM entries WHERE data IS NOT NULL").fetchone()[0])

    def used(self) -> int:
        """Return the bytes that entries use in the file."""
        pages, free, size = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        for connection in (self._reader, self._connection):
            with suppress(sqlite3.Error):
                connection.close()

    def _upsert(self, entries: Sequence[CacheEntry], latest: int) -> int:
        before = self._connection.total_changes
        for start in range(0, len(entries), _ROWS):
            part = entries[start : start + _ROWS]
            rows = [value for e in part for value in (e.key, e.scope, e.data, e.expires_ms, e.stamp, e.origin)]
            self._connection.execute(_upsert(len(part), latest), rows)
        return self._connection.total_changes - before

    def _remove(self, condition: str, bound: int) -> int:
        total, removed = 0, _BATCH
        while removed >= _BATCH:
            delete = f"DELETE FROM entries WHERE key IN (SELECT key FROM entries WHERE {condition} LIMIT {_BATCH})"  # noqa: S608
            with self._transaction():
                removed = self._connection.execute(delete, (bound,)).rowcount
            total += removed
        return total

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise


def open_file(directory: Path, damage: str = "") -> tuple[CacheFile, str]:
    """Open the file of a worker; one that is damaged or foreign is renamed, and a new one begun.

    `damage` is the reason if the file is known to be unusable. Returns the file, and why the former one was given up;
    empty if it was not.

    Raises:
        OSError, sqlite3.Error: it can't be opened.
    """
    path = directory / NAME
    if not damage:
        try:
            return CacheFile(path), ""
        except sqlite3.DatabaseError as exc:
            if type(exc) is not sqlite3.DatabaseError and not is_damage(exc):
                raise
            damage = str(exc)
    for suffix in ("", "-wal", "-shm"):
        each = path.with_name(path.name + suffix)
        with suppress(FileNotFoundError):
            each.rename(each.with_name(f"{each.name}.unusable"))
    return CacheFile(path), f"{path}: {damage}; it is kept as {path.name}.unusable, and a new file begun"


def _used_at_ms(path: Path) -> float:
    times = [time.time()]
    for suffix in ("", "-wal"):
        with suppress(OSError):
            times.append(path.with_name(path.name + suffix).stat().st_mtime)
    return 1000 * (max(times[1:]) if len(times) > 1 else times[0])


def is_damage(error: Exception) -> bool:
    """Return True if an error says that the file is damaged."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _UNUSABLE


def _entry(row: Iterable[object]) -> CacheEntry:
    key, scope, data, expires_ms, stamp, origin = row
    return CacheEntry(key, data, scope, stamp, origin, expires_ms)  # type: ignore[arg-type]


def _upsert(rows: int, latest: int) -> str:
    values = ",".join(["(?,?,?,?,?,?)"] * rows)
    return (
        f"INSERT INTO entries({','.join(_COLUMNS)}) VALUES {values} ON CONFLICT(key) DO UPDATE SET "  # noqa: S608
        "scope = CASE excluded.scope WHEN '' THEN entries.scope ELSE excluded.scope END, data = excluded.data, "
        "expires_ms = excluded.expires_ms, stamp = excluded.stamp, origin = excluded.origin WHERE "
        f"(excluded.stamp <= {latest}, excluded.stamp) > (entries.stamp <= {latest}, entries.stamp) "
        "OR (excluded.stamp = entries.stamp AND excluded.origin < entries.origin)"
    )
