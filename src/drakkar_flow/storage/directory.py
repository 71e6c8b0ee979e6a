"""Directories of this process: safe names, rights, locks, and the requirement of a local disk."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote
from zlib import crc32

__all__ = ["DirectoryRefused", "Purpose", "WorkerDirectory", "network_filesystem", "safe_name", "try_lock"]

_LONGEST: Final = 100  # characters of a directory made of a name
_LOCK: Final = "lock"
_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afs", "ceph", "lustre", "gpfs", "glusterfs", "beegfs", "ocfs2"}
    | {f"fuse.{name}" for name in ("sshfs", "glusterfs", "ceph", "cephfs", "s3fs", "rclone", "gcsfuse", "juicefs")}
)
"""Filesystems shared by hosts: SQLite's WAL mode needs memory shared by all users of a file."""


class DirectoryRefused(Exception):
    """Raised for a directory that is not used; the text says why and what to do."""


class Purpose:
    """Use of a directory, for the texts of `DirectoryRefused`: `verb` names it, `key` is the setting.

    >>> print(Purpose("record to", "debug.db_dir", "recordings", "recorder").refusal(Path("/x"), "it is no directory"))
    can't record to /x: it is no directory: set debug.db_dir to a directory of this user
    """

    def __init__(self, verb: str, key: str, what: str, folder: str) -> None:
        self.verb = verb
        self.key = key
        self.what = what
        self.folder = folder

    def refusal(self, path: Path, reason: str, remedy: str = "") -> DirectoryRefused:
        """Return the error for a directory."""
        remedy = remedy or f"set {self.key} to a directory of this user"
        return DirectoryRefused(f"can't {self.verb} {path}: {reason}: {remedy}")

    def default(self, environ: Mapping[str, str]) -> Path:
        """Return the state directory of this user: `$XDG_STATE_HOME/drakkar-flow`, else below the home directory.

        Raises:
            DirectoryRefused: there is no home directory.
        """
        if state := environ.get("XDG_STATE_HOME", ""):
            return Path(state) / "drakkar-flow" / self.folder
        if home := environ.get("HOME", ""):
            return Path(home) / ".local" / "state" / "drakkar-flow" / self.folder
        raise DirectoryRefused(f"there is no home directory for {self.what}: set {self.key}")

    def root(self, given: Path | None, environ: Mapping[str, str]) -> Path:
        """Return the given directory, a `~` in it replaced by the home directory, else the default.

        Raises:
            DirectoryRefused: there is no home directory.
        """
        if given is None:
            return self.default(environ)
        try:
            return given.expanduser()
        except RuntimeError:
            raise self.refusal(given, "there is no home directory", f"set {self.key}") from None

    def make(self, path: Path) -> None:
        """Make a directory that only this user may write to.

        Raises:
            DirectoryRefused: it can't be made, or others may write to it.
        """
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = path.lstat()
        except OSError as exc:
            reason = "it is no directory" if exc.errno == errno.EEXIST else str(exc.strerror)
            raise self.refusal(path, reason) from None
        if stat.S_ISLNK(found.st_mode):
            found = path.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise self.refusal(path, "it is no directory")
        if found.st_uid not in (os.geteuid(), 0):
            raise self.refusal(path, "it belongs to another user", f"set {self.key} to another directory")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise self.refusal(path, "others may write to it", f"chmod go-w it, or set {self.key}")
        if not os.access(path, os.W_OK | os.X_OK):
            raise self.refusal(path, "it is not writable")


class WorkerDirectory:
    """The directory of one worker, locked by this process until `release`.

    A second process with the same worker name gets a directory with its pid in the name.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def take(cls, directory: Path, worker: str, purpose: Purpose) -> WorkerDirectory:
        """Make and lock the directory of a worker.

        Raises:
            DirectoryRefused: it can't be made, others may write to it, or it is on a network filesystem.
        """
        purpose.make(directory)
        if kind := network_filesystem(directory):
            remedy = f"set {purpose.key} to a local directory"
            raise DirectoryRefused(f"{directory} is on a network filesystem ({kind}): {remedy}")
        name = safe_name(worker)
        for each in (name, f"{name}+{os.getpid()}"):
            path = directory / each
            purpose.make(path)
            if (lock := try_lock(path)) is not None:
                return cls(path, lock)
        raise DirectoryRefused(f"{directory / name} is used by another process: give each worker its own name")

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


def safe_name(text: str) -> str:
    """Return any text as the name of a directory.

    >>> safe_name("a/b"), safe_name(".."), safe_name("")
    ('a%2Fb', '%2E.', '_')
    """
    name = quote(text, safe="", errors="replace")
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    name = name or "_"
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}-{crc32(text.encode(errors='replace')):08x}"


def network_filesystem(directory: Path, mounts: Path = _MOUNTS) -> str:
    """Return the type of the directory's filesystem if hosts share it, else an empty text; also if it is unknown."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:  # not Linux
        return ""
    there, best, found = directory.resolve(), -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4].encode().decode("unicode_escape"))
        if there.is_relative_to(point) and len(point.parts) >= best:  # a later mount covers an earlier one
            best, found = len(point.parts), after.split()[0]
    return found if found in _NETWORK else ""
