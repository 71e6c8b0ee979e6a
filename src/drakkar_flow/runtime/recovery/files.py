"""Partition files of a recovery store: Bytewax's SQLite files, opened read-only, and the epoch to resume from.

The tables are those of Bytewax 0.21: `parts` (index and count of a file), `exs` (executions), `fronts` (the progress of
each worker of an execution), `commits` (the epoch up to which a file is cleaned), `snaps` (snapshots). The last three
are spread over all files.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

__all__ = ["DamagedStore", "PartFile", "Progress", "opened", "part_files", "progress_of", "quick_check", "read_part"]

SUFFIX = ".sqlite3"
_BUSY_S = 2.0  # the longest wait for a lock of the worker
_SCHEMA_VERSION = 5  # number of Bytewax's migrations
_TABLES = frozenset({"parts", "exs", "fronts", "commits", "snaps"})


class DamagedStore(ValueError):
    """The files of a store are damaged, incomplete or foreign; `path` is the file or the directory."""

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        super().__init__(what)


class Progress(NamedTuple):
    """The point to resume from: number of the next execution, and its first epoch."""

    execution: int
    epoch: int


@dataclass(frozen=True, slots=True)
class PartFile:
    """One partition file: its index of `count`, executions `(number, workers, epoch)`, fronts `(execution, worker,
    epoch)`, and the epoch up to which outdated snapshots are deleted (None: never)."""

    path: Path
    index: int
    count: int
    executions: tuple[tuple[int, int, int], ...]
    fronts: tuple[tuple[int, int, int], ...]
    cleaned_epoch: int | None


def part_files(directory: Path) -> list[Path]:
    """Return the files that Bytewax would open, in order."""
    return sorted(path for path in directory.glob(f"*{SUFFIX}") if path.is_file())


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file read-only, for a short read; the worker that uses it goes on.

    Raises:
        DamagedStore: the file is no database, or is damaged.
    """
    alone = not Path(f"{path}-wal").exists() and not _writable(path.parent)
    mode = "mode=ro&immutable=1" if alone else "mode=ro"  # a copy on a read-only disk has no room for a WAL index
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=_BUSY_S)
        try:
            yield connection
        finally:
            connection.close()
    except sqlite3.DatabaseError as exc:
        raise DamagedStore(path, f"can't be read: {exc}") from exc


def read_part(path: Path) -> PartFile:
    """Read the small tables of a file.

    Raises:
        DamagedStore: the file is damaged, or no partition file of Bytewax.
    """
    with opened(path) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables < _TABLES or version < _SCHEMA_VERSION:
            raise DamagedStore(path, "is no partition file of Bytewax")
        if version > _SCHEMA_VERSION:
            raise DamagedStore(path, f"was written by a later Bytewax (schema {version}, known is {_SCHEMA_VERSION})")
        parts = connection.execute("SELECT part_index, part_count FROM parts").fetchall()
        if len(parts) != 1:
            raise DamagedStore(path, f"holds {len(parts)} partitions instead of one")
        cleaned = connection.execute("SELECT MAX(commit_epoch) FROM commits").fetchone()[0]
        return PartFile(
            path,
            parts[0][0],
            parts[0][1],
            tuple(connection.execute("SELECT ex_num, worker_count, resume_epoch FROM exs")),
            tuple(connection.execute("SELECT ex_num, worker_index, worker_frontier FROM fronts")),
            cleaned,
        )


def quick_check(path: Path) -> None:
    """Check the structure of a file with SQLite's `quick_check`.

    Raises:
        DamagedStore: the file is damaged.
    """
    with opened(path) as connection:
        result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if result != "ok":
        raise DamagedStore(path, f"is damaged: {' '.join(result.split())}")


def progress_of(directory: Path, parts: Sequence[PartFile]) -> Progress:
    """Return the point from which Bytewax would resume: the least progress of all workers of the last execution.

    Raises:
        DamagedStore: files are missing, do not belong together, or one is too old.
    """
    counts = sorted({part.count for part in parts})
    if not parts:
        raise DamagedStore(directory, "has no partition files")
    if len(counts) > 1:
        raise DamagedStore(directory, f"holds files of stores with {' and '.join(map(str, counts))} partitions")
    indexes = [part.index for part in parts]
    for part in parts:
        if indexes.count(part.index) > 1:
            names = " and ".join(each.path.name for each in parts if each.index == part.index)
            raise DamagedStore(directory, f"holds {names}, both for partition {part.index}")
    if missing := sorted(set(range(counts[0])) - set(indexes)):
        names = ", ".join(f"part-{index}{SUFFIX}" for index in missing)
        raise DamagedStore(directory, f"lacks {names} of {counts[0]} partition files")
    progress = _least_progress(parts)
    newer = [part for part in parts if part.cleaned_epoch is not None and part.cleaned_epoch > progress.epoch]
    if newer:
        names = ", ".join(part.path.name for part in newer)
        what = f"holds files of different ages: {names} no longer has the snapshots of epoch {progress.epoch}"
        raise DamagedStore(directory, what)
    return progress


def _least_progress(parts: Sequence[PartFile]) -> Progress:
    executions = [each for part in parts for each in part.executions]
    if not executions:
        return Progress(0, 1)
    number, workers, first = max(executions)
    reached = dict.fromkeys(range(workers), first)
    for part in parts:
        for execution, worker, epoch in part.fronts:
            if execution == number:
                reached[worker] = max(reached.get(worker, first), epoch)
    return Progress(number + 1, min(reached.values()))


def _writable(directory: Path) -> bool:
    return os.access(directory, os.W_OK) and not os.statvfs(directory).f_flag & os.ST_RDONLY
