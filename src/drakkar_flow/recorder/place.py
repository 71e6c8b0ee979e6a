"""Place of recordings: the directory, its rights, the lock of a worker, the names of files."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from drakkar_flow.runtime.recovery.directory import network_filesystem, safe_name

__all__ = [
    "LIVE",
    "SEALED",
    "PlaceRefused",
    "WorkerPlace",
    "default_directory",
    "file_time",
    "root_of",
    "side_of",
    "try_lock",
    "workers_in",
]

LIVE: Final = ".live.sqlite"
SEALED: Final = ".sqlite"
_SIDE: Final = ".side"
_LOCK: Final = "lock"


class PlaceRefused(Exception):
    """Raised for a directory in which nothing is recorded; the text says why and what to do."""


def default_directory(environ: Mapping[str, str]) -> Path:
    """Return the state directory of this user: `$XDG_STATE_HOME/drakkar-flow`, else below the home directory.

    Raises:
        PlaceRefused: there is no home directory.
    """
    if state := environ.get("XDG_STATE_HOME", ""):
        return Path(state) / "drakkar-flow" / "recorder"
    if home := environ.get("HOME", ""):
        return Path(home) / ".local" / "state" / "drakkar-flow" / "recorder"
    raise PlaceRefused("there is no home directory for recordings: set debug.db_dir")


def root_of(given: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the directory of recordings: the given one, a `~` in it replaced by the home directory, else the default.

    Raises:
        PlaceRefused: there is no home directory.
    """
    if given is None:
        return default_directory(environ)
    try:
        return given.expanduser()
    except RuntimeError:
        raise PlaceRefused(f"can't record to {given}: there is no home directory: set debug.db_dir") from None


def workers_in(directory: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and directory of each worker that has recordings."""
    with suppress(OSError):
        for path in sorted(directory.iterdir()):
            if path.is_dir() and not path.is_symlink():
                yield unquote(path.name), path


def file_time(us: int) -> str:
    """Return the time of a file's name.

    >>> file_time(1_700_000_000_123_456)
    '20231114T221320.123456Z'
    """
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def side_of(path: Path) -> Path:
    """Return the side file of a sealed recording."""
    return path.with_name(path.name.removesuffix(SEALED) + _SIDE)


class WorkerPlace:
    """The directory of one worker, locked by this process until `release`.

    A second process with the same worker name gets a directory with its pid in the name.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def take(cls, directory: Path, worker: str) -> WorkerPlace:
        """Make and lock the directory of a worker.

        Raises:
            PlaceRefused: it can't be made, others may write to it, or it is on a network filesystem.
        """
        _make(directory)
        if kind := network_filesystem(directory):
            raise PlaceRefused(
                f"{directory} is on a network filesystem ({kind}): set debug.db_dir to a local directory"
            )
        name = safe_name(worker)
        for each in (name, f"{name}+{os.getpid()}"):
            path = directory / each
            _make(path)
            if (lock := try_lock(path)) is not None:
                return cls(path, lock)
        raise PlaceRefused(f"{directory / name} is used by another process: give each worker its own name")

    def release(self) -> None:
        """Release the lock; safe to call twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def try_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock of a worker's directory; None if a process has it."""
    descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _make(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as exc:
        reason = "it is no directory" if exc.errno == errno.EEXIST else exc.strerror
        raise PlaceRefused(f"can't record to {path}: {reason}: set debug.db_dir to a directory of this user") from None
    if stat.S_ISLNK(found.st_mode):
        found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise PlaceRefused(f"can't record to {path}: it is no directory: set debug.db_dir to a directory of this user")
    if found.st_uid not in (os.geteuid(), 0):
        raise PlaceRefused(f"can't record to {path}: it belongs to another user: set debug.db_dir to another directory")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PlaceRefused(f"can't record to {path}: others may write to it: chmod go-w it, or set debug.db_dir")
    if not os.access(path, os.W_OK | os.X_OK):
        raise PlaceRefused(f"can't record to {path}: it is not writable: set debug.db_dir to a directory of this user")
