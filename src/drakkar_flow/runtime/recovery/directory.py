"""Directory of a recovery store: its name, its lock, atomic files, and the requirement of a local disk."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

from drakkar_flow.config.sections.recovery import RecoveryStoreConfig
from drakkar_flow.errors import Problem, StartupError
from drakkar_flow.storage.directory import safe_name

__all__ = [
    "KEY",
    "SINGLE",
    "Place",
    "StoreInUse",
    "check_shared",
    "directory_of",
    "locked",
    "moved_aside",
]

KEY = "runtime.recovery.dir"
_NOT_RENAMED = frozenset({errno.EACCES, errno.EBUSY, errno.EINVAL, errno.EPERM, errno.EROFS, errno.EXDEV})


class Place(NamedTuple):
    """Place of a process in its cluster; a single process is a cluster of one."""

    process: int = 0
    processes: int = 1

    @property
    def lock(self) -> str:
        """Name of its lock file."""
        return f"process-{self.process}.lock"


SINGLE = Place()
"""The only process."""


class StoreInUse(StartupError):
    """Raised when another process uses the store."""

    title = "the recovery store is in use"


def directory_of(settings: RecoveryStoreConfig | None, flow: str) -> Path:
    """Return the store's directory: `dir`, else `recovery/` with the flow's name as a safe directory name.

    >>> print(directory_of(None, "count/per user"), directory_of(None, ".."))
    recovery/count%2Fper%20user recovery/%2E.
    """
    if settings is not None and settings.dir is not None:
        return settings.dir.expanduser()
    return Path("recovery") / safe_name(flow)


@contextmanager
def locked(directory: Path, place: Place = SINGLE) -> Iterator[None]:
    """Hold the lock of a process; it ends with the process, however the process ends.

    Process 0 comes first: it needs the store for itself, so no other lock may be held. The others need those of a
    larger cluster to be free.

    Raises:
        StoreInUse: another process holds it; the problem names its pid.
        OSError: the directory is missing or not writable.
    """
    descriptor = _open_lock(directory, place.lock)
    try:
        _check_others(directory, place)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _check_others(directory: Path, place: Place) -> None:
    """Refuse the store while a process of another cluster, or of an earlier run, uses it."""
    least = 1 if place.process == 0 else place.processes
    for path in directory.glob("process-*.lock"):
        number = path.name.removeprefix("process-").removesuffix(".lock")
        if number.isdigit() and int(number) >= least:
            with suppress(FileNotFoundError):
                os.close(_open_lock(directory, path.name))


def check_shared(directory: Path) -> None:
    """Refuse a directory that process 0 of the cluster does not use.

    Raises:
        StartupError: it uses another one, or is on another host.
    """
    try:
        os.close(_open_lock(directory, Place().lock))
    except StoreInUse:
        return
    remedy = "give all processes of the cluster the same directory, on one host"
    raise StartupError([Problem(KEY, f"process 0 of the cluster does not use {directory}", remedy)], exit_code=2)


def _open_lock(directory: Path, name: str) -> int:
    path = directory / name
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), os.fstat(descriptor)):
                    return descriptor
        except BlockingIOError:
            pid = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            os.close(descriptor)
            holder = f"process {pid}" if pid else "another process"
            remedy = "stop that process; or set another directory, if it runs another flow"
            raise StoreInUse([Problem(KEY, f"the store {directory} is used by {holder}", remedy)]) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # `recovery reset` moved the directory aside in between


def moved_aside(directory: Path) -> Path:
    """Rename the directory to the first free `NAME.old-N`, and return the new path.

    A directory that can't be renamed, because a volume is mounted there or the parent is not writable, stays: its files
    move into its first free subdirectory `old-N`.

    Raises:
        OSError: neither is possible.
    """
    path = directory if directory.name else directory.resolve()
    aside = _free(path.with_name(f"{path.name}.old"))
    try:
        path.rename(aside)
    except OSError as exc:
        if exc.errno not in _NOT_RENAMED:
            raise
        files = [each for each in path.iterdir() if each.is_file() and each.suffix != ".lock"]
        aside = _free(path / "old")
        aside.mkdir()
        for each in files:
            each.rename(aside / each.name)
    return aside


def _free(path: Path) -> Path:
    return next(found for n in count(1) if not (found := path.with_name(f"{path.name}-{n}")).exists())
