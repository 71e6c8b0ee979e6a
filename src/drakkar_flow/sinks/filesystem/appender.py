"""Appends whole lines to the files of one directory, or replaces files; synchronous, for one thread at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from drakkar_flow._files import sync_directory
from drakkar_flow.errors import SinkError, SinkMisconfigured, SinkRejected

__all__ = ["Appender"]

MAX_OPEN_FILES = 64

_UNUSABLE = frozenset({errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR})
"""Error codes of an open if the path itself is wrong, not the disk."""
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})


class Appender:
    """Keeps the files it appended to last open.

    Several processes may append to the same file: a lock is held around each append.

    Args:
        base: the existing directory that all paths stay inside.
        fsync: True if an append returns only when the lines are on the disk.
    """

    def __init__(self, base: Path, *, fsync: bool) -> None:
        self.base = os.path.realpath(base)
        self._fsync = fsync
        self._open_files: OrderedDict[str, int] = OrderedDict()

    def append(self, path: str, lines: Sequence[bytes]) -> None:
        """Append lines (without their newlines) to `path` inside the base directory: all of them or none.

        Parent directories are created. A half line that a crash left behind stays alone on its line.

        Raises:
            SinkRejected: the path leaves the base directory or can't be a file's.
            SinkMisconfigured: this user may not write there.
            SinkError: the file can't be written; lines that were written are removed again.
        """
        target = self._resolve(path)
        with _reported(path):
            try:
                self._append(self._descriptor(target), b"".join([line + b"\n" for line in lines]))
            except OSError:
                self._forget(target)  # the descriptor may be stale: the next append opens the file again
                raise

    def replace(self, path: str, data: bytes) -> None:
        """Make `data` the whole content of `path`; parent directories are created.

        Raises:
            SinkRejected: as for `append`.
            SinkError: the file can't be written; its former content stays.
        """
        target = self._resolve(path)
        with _reported(path):
            self._replace(Path(target), data)

    def close(self) -> None:
        """Close all files; safe to call twice."""
        while self._open_files:
            _close(self._open_files.popitem()[1])

    def _forget(self, target: str) -> None:
        if (descriptor := self._open_files.pop(target, None)) is not None:
            _close(descriptor)

    def _resolve(self, path: str) -> str:
        if not isinstance(path, str) or not path or "\0" in path or not _has_bytes(path):
            raise SinkRejected(f"{path!r} is not a path of a file")
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise SinkRejected(f"{path!r} leaves the base directory: give a relative path without '..'")
        target = os.path.realpath(os.path.join(self.base, path))  # noqa: PTH118  (a Path would drop a trailing slash)
        if path.endswith("/") or target == self.base:
            raise SinkRejected(f"{path!r} is a directory")
        if not target.startswith(os.path.join(self.base, "")):  # noqa: PTH118  (base ends with a separator)
            raise SinkRejected(f"{path!r} leaves the base directory through a symbolic link")
        return target

    def _descriptor(self, target: str) -> int:
        """Return the open file of `target`, unless it was moved or removed since."""
        descriptor = self._open_files.pop(target, None)
        if descriptor is not None and not _is_same(descriptor, target):
            _close(descriptor)
            descriptor = None
        if descriptor is None:
            descriptor = self._open(Path(target))
        self._open_files[target] = descriptor
        if len(self._open_files) > MAX_OPEN_FILES:
            _close(self._open_files.popitem(last=False)[1])
        return descriptor

    def _open(self, target: Path) -> int:
        missing = _make_parents(target)
        # O_RDWR: to see the last byte; and unlike O_WRONLY it does not wait for the reader of a named pipe.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(target, flags, 0o644)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            self._sync_parents(missing)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _replace(self, target: Path, data: bytes) -> None:
        missing = _make_parents(target)
        if target.exists() and not target.is_file():
            raise OSError(errno.EINVAL, "not a regular file")
        part = target.with_name(f".drakkar-{secrets.token_hex(8)}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            try:
                _write_all(descriptor, data)
                if self._fsync:
                    os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
            part.replace(target)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        self._sync_parents({target, *missing})

    def _sync_parents(self, made: Iterable[Path]) -> None:
        if self._fsync:
            for each in made:
                sync_directory(each.parent)

    def _append(self, descriptor: int, data: bytes) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                data = b"\n" + data
            try:
                _write_all(descriptor, data)
                if self._fsync:
                    os.fdatasync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextmanager
def _reported(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        text = f"{path}: {error.strerror or error}"
        if error.errno in _FORBIDDEN:
            raise SinkMisconfigured(text, "let this user write below sinks.filesystem.*.base_path") from error
        raise (SinkRejected if error.errno in _UNUSABLE else SinkError)(text) from error


def _close(descriptor: int) -> None:
    with suppress(OSError):  # of a file system that is gone; all writes are synced already
        os.close(descriptor)


def _has_bytes(path: str) -> bool:
    try:
        return bool(os.fsencode(path))
    except UnicodeEncodeError:
        return False


def _make_parents(target: Path) -> list[Path]:
    """Create the directories above a file; returns the paths that did not exist, the file included."""
    missing = [each for each in (target, *target.parents) if not each.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    return missing


def _is_same(descriptor: int, target: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(target))
    except OSError:
        return False


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
