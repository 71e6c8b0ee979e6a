"""Keeper: seals files of ended processes, strips and removes old ones. Works on closed files, on a separate thread."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from drakkar_flow.recorder.live_file import fold_ticks, seal_left_over
from drakkar_flow.recorder.place import LIVE, SEALED, side_of, workers_in
from drakkar_flow.recorder.schema import DETAILS
from drakkar_flow.recorder.side import read_side, write_side
from drakkar_flow.storage.directory import try_lock

__all__ = ["Retention", "keep", "remove_oldest", "seal", "seal_ended", "sealed_in"]

_STRIPPED_SHARE = 4  # a quarter of the bytes is for recordings without details
_OLD_SPAN_S = 60
_DAMAGED = ".damaged"


class Retention(NamedTuple):
    """Bytes of sealed recordings that are kept in a directory, and the seconds for which they are."""

    size: int
    age_s: float


class _Sealed(NamedTuple):
    path: Path
    size: int
    changed_at: float
    stripped: bool


def sealed_in(directory: Path) -> list[_Sealed]:
    """Return the sealed recordings of all workers, oldest first."""
    found = []
    for _, worker in workers_in(directory):
        for path in worker.glob(f"*{SEALED}"):
            if not path.name.endswith(LIVE):
                with suppress(OSError):
                    state, side = path.stat(), read_side(side_of(path))
                    found.append(_Sealed(path, state.st_size, state.st_mtime, side is not None and side.stripped))
    return sorted(found, key=lambda each: each.path.name)


def seal(paths: Iterable[Path], faulty: Callable[[Path, Exception], None]) -> None:
    """Seal live files that no process writes any more.

    A damaged file is renamed to `.damaged`, one of a newer version stays as it is; both are given to `faulty`.
    """
    for path in paths:
        _seal_one(path, faulty)


def seal_ended(directory: Path, mine: Path, faulty: Callable[[Path, Exception], None]) -> None:
    """Seal the live files of all workers but `mine` whose process has ended."""
    for _, worker in workers_in(directory):
        lock = None
        if worker != mine:
            with suppress(OSError):
                lock = try_lock(worker)
        if lock is not None:
            try:
                seal(sorted(worker.glob(f"*{LIVE}")), faulty)
            finally:
                _leave(worker, lock)


def _seal_one(path: Path, faulty: Callable[[Path, Exception], None]) -> None:
    try:
        if path.stat().st_size == 0:  # it was killed before it wrote anything
            _remove(path)
        else:
            seal_left_over(path)
    except ValueError as exc:
        faulty(path, exc)
    except sqlite3.DatabaseError as exc:
        faulty(path, exc)
        if not isinstance(exc, sqlite3.OperationalError):
            with suppress(OSError):
                path.rename(path.with_name(path.name.removesuffix(LIVE) + _DAMAGED))
    except OSError as exc:
        faulty(path, exc)


def _leave(worker: Path, lock: int) -> None:
    """Release the lock of another worker's directory; remove the directory if nothing is left in it."""
    with suppress(OSError):
        if [path.name for path in worker.iterdir()] == ["lock"]:
            (worker / "lock").unlink()
            worker.rmdir()
    os.close(lock)


def keep(directory: Path, retention: Retention) -> None:
    """Apply the retention: by age, then details of the oldest recordings, then the oldest recordings.

    Errors are left to the next time: another worker may do the same at once.
    """
    oldest = time.time() - retention.age_s
    for each in sealed_in(directory):
        if each.changed_at < oldest:
            _remove(each.path)
    for path in _over(directory, retention.size):
        with suppress(OSError, sqlite3.Error):
            _strip(path)
    found = sealed_in(directory)
    total = sum(each.size for each in found)
    for each in [*(each for each in found if each.stripped), *(each for each in found if not each.stripped)]:
        if total <= retention.size:
            return
        _remove(each.path)
        total -= each.size


def remove_oldest(directory: Path) -> bool:
    """Remove the oldest sealed recording; False if there is none."""
    found = sealed_in(directory)
    if found:
        _remove(found[0].path)
    return bool(found)


def _over(directory: Path, size: int) -> Iterator[Path]:
    """Yield the oldest recordings with details that do not fit."""
    found = sealed_in(directory)
    stripped = sum(each.size for each in found if each.stripped)
    full = [each for each in found if not each.stripped]
    room = size - min(stripped, size // _STRIPPED_SHARE)
    total = sum(each.size for each in full)
    for each in full:
        if total <= room:
            return
        total -= each.size
        yield each.path


def _strip(path: Path) -> None:
    """Replace a sealed recording by one without details, with ticks of a minute; readers keep the old one open."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as source:
        source.execute("VACUUM INTO ?", (str(temporary),))
    temporary.chmod(0o600)
    with closing(sqlite3.connect(temporary, isolation_level=None)) as copy:
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("BEGIN")
        for table in DETAILS:
            if table == "events":  # those without a fault and a record stay: the life of the worker
                copy.execute("DELETE FROM events WHERE fault IS NOT NULL OR topic_partition IS NOT NULL")
            else:
                copy.execute(f"DELETE FROM {table}")  # noqa: S608 - ours
        copy.execute("INSERT OR REPLACE INTO meta VALUES ('stripped', 1)")
        copy.execute("COMMIT")
        fold_ticks(copy, 1 << 40, _OLD_SPAN_S)
        copy.execute("VACUUM")
    changed = path.stat().st_mtime
    os.utime(temporary, (changed, changed))
    temporary.replace(path)
    write_side(path, side_of(path))


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
        side_of(path).unlink(missing_ok=True)
    for ending in ("-wal", "-shm", "-journal"):
        with suppress(OSError):
            path.with_name(path.name + ending).unlink()
