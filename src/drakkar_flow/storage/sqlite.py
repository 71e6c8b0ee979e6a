"""SQLite as this process writes it: one connection per file that writes, bounded waits, errors that mean "full"."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Final

__all__ = ["MAX_VARIABLES", "connect", "is_full", "private_file"]

MAX_VARIABLES: Final = 30_000
"""Values of one statement; SQLite's bound is 32,766."""

_CACHE_KIB = 4096
_CHECKPOINT_PAGES = 1000
_BUSY_S = 1.0  # readers have a file open for the time of a query
_FULL = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR_WRITE,  # the quota of a user, the limit of a file's size
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_TRUNCATE,
    }
)
"""Codes of SQLite that may mean a lack of space. A disk that can't be read gets no better by removing files."""


def connect(path: Path, mode: str = "rw") -> sqlite3.Connection:
    """Open a file that exists: `rw` for the one connection that writes and checkpoints, `ro` for the others."""
    connection = sqlite3.connect(
        f"file:{_quoted(path)}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=_BUSY_S,
    )
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute("PRAGMA temp_store = MEMORY")
    if mode == "rw":
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    return connection


def private_file(path: Path, *, new: bool = False) -> os.stat_result:
    """Make the file, for this user alone, unless it exists; with `new` it must not exist.

    Raises:
        OSError: it can't be made, or is a link.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_EXCL if new else 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def is_full(error: Exception) -> bool:
    """Return True if an error may mean that the disk, a quota or the limit of a file's size is full."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) in _FULL
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _quoted(path: Path) -> str:
    return path.absolute().as_uri().removeprefix("file://")
