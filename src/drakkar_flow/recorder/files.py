"""Files of a recording as a reader opens them: read-only, with a budget of time, skipped unopened where possible."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from drakkar_flow.recorder.live_file import check_identity, sealed_path
from drakkar_flow.recorder.place import LIVE, SEALED, side_of
from drakkar_flow.recorder.side import Side, read_side, side_from

__all__ = ["Budget", "RecordedFile", "find_files"]

_STEPS = 2_000  # instructions of SQLite between two looks at the clock
_BUSY_S = 0.2


class Budget:
    """Seconds that a query may take, over all files."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        """True if the time is over."""
        return time.monotonic() >= self._until


class RecordedFile:
    """One file. Sealed files are opened once and kept open, live ones for the time of a query."""

    def __init__(self, path: Path, side: Side, inode: int = 0) -> None:
        self.path = path
        self.inode = inode
        self.side = side
        self.is_live = path.name.endswith(LIVE)
        self._connection: sqlite3.Connection | None = None
        self._names: dict[int, tuple[str, str]] = {}
        self._ids: dict[tuple[str, str], int] = {}

    @property
    def began_us(self) -> int:
        """Begin of its period."""
        return self.side.began_us

    @property
    def ended_us(self) -> int:
        """End of its period; of a live file the present."""
        return time.time_ns() // 1000 if self.is_live else self.side.ended_us

    def rows(self, statement: str, values: Sequence[Any], budget: Budget) -> tuple[list[tuple[Any, ...]], bool]:
        """Return the rows of a query; False if the budget ended it before it had all.

        Raises:
            sqlite3.Error: the file is damaged.
        """
        if self._connection is None:
            connection = self._opened()
            if not self.is_live:
                self._connection = connection
        else:
            connection = self._connection
        found: list[tuple[Any, ...]] = []
        try:
            connection.set_progress_handler(lambda: budget.is_over, _STEPS)
            for row in connection.execute(statement, values):
                found.append(row)  # noqa: PERF402 - rows before an interrupt count
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            return found, False
        finally:
            if self.is_live:
                connection.close()
        return found, True

    def name(self, number: int | None) -> str:
        """Return the text of a name."""
        if number is None:
            return ""
        if number not in self._names:
            self._read_names()
        return self._names.get(number, ("", ""))[1]

    def kind(self, number: int) -> str:
        """Return the kind of a name."""
        self.name(number)
        return self._names.get(number, ("", ""))[0]

    def id(self, kind: str, text: str) -> int | None:
        """Return the number of a name; None if the file does not have it."""
        if (kind, text) not in self._ids and (self.is_live or not self._ids):
            self._read_names()
        return self._ids.get((kind, text))

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        try:
            return connect(self.path)
        except sqlite3.OperationalError:
            if not self.is_live:
                raise
        return connect(sealed_path(self.path))  # sealed in between

    def _read_names(self) -> None:
        rows, _ = self.rows("SELECT id, kind, text FROM names", (), Budget(5.0))
        self._names = {number: (kind, text) for number, kind, text in rows}
        self._ids = {name: number for number, name in self._names.items()}


def connect(path: Path) -> sqlite3.Connection:
    """Open a recording for reading: a sealed one never changes, a live one is read beside its writer."""
    how = "mode=ro" if path.name.endswith(LIVE) else "mode=ro&immutable=1"
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}", uri=True, check_same_thread=False, timeout=_BUSY_S, isolation_level=None
    )


def find_files(places: Iterable[Path], known: dict[Path, RecordedFile]) -> tuple[list[RecordedFile], dict[Path, str]]:
    """Return the recordings below some directories, newest first, and the files that are none, with the reason.

    A file in two places, a copy that was merged, is found once. `known` keeps the opened files.
    """
    faulty: dict[Path, str] = {}
    by_id: dict[str, RecordedFile] = {}
    paths = sorted({path for place in places for path in _paths(place)})
    for gone in known.keys() - set(paths):
        known.pop(gone).close()
    for path in paths:
        try:
            found = _current(path, known)
        except FileNotFoundError:
            continue  # sealed or removed in between
        except (OSError, ValueError, sqlite3.Error) as exc:
            faulty[path] = str(exc)
            continue
        other = by_id.get(found.side.file)
        if other is None or (other.is_live and not found.is_live) or found.side.ended_us > other.side.ended_us:
            by_id[found.side.file] = found
    return sorted(by_id.values(), key=lambda each: (each.ended_us, each.began_us), reverse=True), faulty


def _current(path: Path, known: dict[Path, RecordedFile]) -> RecordedFile:
    """Return the file that is there now; a sealed one is replaced when its details are removed."""
    found, inode = known.get(path), path.stat().st_ino
    if found is not None and found.inode == inode and not found.is_live:
        return found
    side = _identify(path)
    if found is not None and found.inode == inode:
        found.side = side
        return found
    if found is not None:
        found.close()
    known[path] = RecordedFile(path, side, inode)
    return known[path]


def _paths(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    found = [*place.glob(f"*{SEALED}"), *place.glob(f"*/*{SEALED}"), *place.glob(f"*/*/*{SEALED}")]
    return [path for path in found if not (path.name.endswith(LIVE) and sealed_path(path).exists())]


def _identify(path: Path) -> Side:
    if not path.name.endswith(LIVE):
        side = read_side(side_of(path))
        if side is not None and side.size == path.stat().st_size:
            return side
    if not path.exists():
        raise FileNotFoundError(path)
    with closing(connect(path)) as connection:
        check_identity(connection)
        if not path.name.endswith(LIVE):
            return side_from(connection, path.stat().st_size)
        meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
    size = 0
    with suppress(OSError):
        size = path.stat().st_size
    began = int(meta.get("began_us", 0))
    return Side(str(meta["file"]), str(meta["worker"]), str(meta["ended"]), began, began, size, {}, 0, b"")
