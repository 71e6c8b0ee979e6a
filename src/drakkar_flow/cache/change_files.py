"""Change files: the entries that a worker passes to others, as files that are written once, signed and never changed.

A worker's directory has one generation of files per run: a snapshot of its entries, then the changes since, numbered.
When there are many, a new snapshot replaces them. No locks and no appending, so a network filesystem will do.

A file is a magic number, a signature of its name and content, and the content in msgpack.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from drakkar_flow.kernel.cache_entries import CacheEntry

__all__ = ["ChangeFile", "ChangeWriter", "Content", "Refused", "change_files", "read_change_file", "travels"]

_MAGIC: Final = b"DKCF1\n"
_SIGNATURE: Final = 32
_MAX_BYTES: Final = 64 * 1024 * 1024  # of a file that is read
_PART_BYTES: Final = 8 * 1024 * 1024  # of a file that is written, about
_PART_ROWS: Final = 10_000
_MAX_FILES: Final = 64  # of changes, before a new snapshot
_FIRST, _MORE, _CHANGES = ".first", ".more", ".changes"

Row = tuple[str, bytes | None, str, int, int | None]
"""Key, data, scope, stamp, expiry."""


class Refused(Exception):
    """Raised for a change file that is not used; the text says why."""


class Content(msgspec.Struct, frozen=True, array_like=True):
    """Content of a change file. `last` is True for the last file of a snapshot, and for changes."""

    worker: str
    cluster: str
    last: bool
    rows: list[Row]

    def entries(self, cluster: str) -> Iterator[CacheEntry]:
        """Yield the entries for a worker of a cluster."""
        for key, data, scope, stamp, expires_ms in self.rows:
            if scope == "global" or (scope == "cluster" and self.cluster == cluster):
                yield CacheEntry(key, data, scope, stamp, self.worker, expires_ms)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Content).decode


class ChangeFile(NamedTuple):
    """Name of a change file; later generations and files are greater."""

    generation: str
    seq: int
    kind: str

    @property
    def name(self) -> str:
        """Name in the directory."""
        return f"{self.generation}-{self.seq:010d}{self.kind}"

    @property
    def begins_snapshot(self) -> bool:
        """True for the first file of a snapshot."""
        return self.kind == _FIRST


def travels(entry: CacheEntry) -> bool:
    """True for an entry that other workers get."""
    return entry.scope in ("cluster", "global") or (entry.scope == "" and entry.data is None)


def change_files(directory: Path) -> list[ChangeFile]:
    """Return the files of the latest generation, from the latest snapshot on.

    Raises:
        OSError: the directory can't be read.
    """
    found = sorted(each for path in directory.iterdir() if (each := _parsed(path.name)) is not None)
    latest = [each for each in found if each.generation == found[-1].generation]
    begin = max((each.seq for each in latest if each.begins_snapshot), default=-1)
    return [each for each in latest if each.seq >= begin >= 0]


def read_change_file(directory: Path, file: ChangeFile, secret: bytes) -> Content:
    """Read a file and check its signature.

    Raises:
        OSError: it can't be read.
        Refused: it is damaged, foreign, too large, or signed with another secret.
    """
    path = directory / file.name
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not block
    with os.fdopen(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Refused(f"{path} is no file")
        raw = opened.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise Refused(f"{path} is larger than {_MAX_BYTES:,} bytes")
    begin = len(_MAGIC) + _SIGNATURE
    if not raw.startswith(_MAGIC):
        raise Refused(f"{path} is no change file of this version")
    body = raw[begin:]
    if not hmac.compare_digest(raw[len(_MAGIC) : begin], _signature(directory.name, file.name, body, secret)):
        remedy = "set the same cache.peer_sync.secret for all workers"
        raise Refused(f"the signature of {path} is wrong: {remedy}")
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise Refused(f"{path} can't be read: {exc}") from None


class ChangeWriter:
    """Writes the change files of one worker."""

    def __init__(self, directory: Path, worker: str, cluster: str, secret: bytes) -> None:
        self.directory = directory
        self._worker = worker
        self._cluster = cluster
        self._secret = secret
        self._generation = f"{time.time_ns() // 1_000_000:013x}{secrets.token_hex(3)}"
        self._seq = 0
        self._changes = 0
        self.needs_snapshot = True
        """True if changes may be missing, or there are many files."""

    def append(self, entries: Iterable[CacheEntry]) -> None:
        """Write changes.

        Raises:
            OSError: they were not written; a snapshot is needed.
        """
        self.needs_snapshot = True
        for part, _ in _parts(entries):
            self._write(_CHANGES, part, last=True)
            self._changes += 1
        self.needs_snapshot = self._changes >= _MAX_FILES

    def snapshot(self, entries: Iterable[CacheEntry]) -> None:
        """Write all entries, and remove all earlier files.

        Raises:
            OSError: it was not written.
        """
        self.needs_snapshot = True
        base, kind = self._seq, _FIRST
        for part, last in _parts(entries):
            self._write(kind, part, last=last)
            kind = _MORE
        self._changes = 0
        self.needs_snapshot = False
        for path in self.directory.iterdir():
            file = _parsed(path.name)
            if file is not None and (file.generation, file.seq) < (self._generation, base):
                with suppress(FileNotFoundError):
                    path.unlink()

    def is_disputed(self) -> bool:
        """True if a worker that was started later writes to the same directory."""
        with suppress(OSError):
            found = (_parsed(path.name) for path in self.directory.iterdir())
            return any(each is not None and each.generation > self._generation for each in found)
        return False

    def _write(self, kind: str, rows: list[Row], *, last: bool) -> None:
        file = ChangeFile(self._generation, self._seq, kind)
        body = _encode(Content(self._worker, self._cluster, last, rows))
        temporary = self.directory / f".{file.name}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(_MAGIC + _signature(self.directory.name, file.name, body, self._secret) + body)
            opened.flush()
            os.fsync(opened.fileno())
        temporary.rename(self.directory / file.name)
        self._seq += 1


def _parts(entries: Iterable[CacheEntry]) -> Iterator[tuple[list[Row], bool]]:
    """Yield rows in parts of bounded size, each with whether it is the last; at least one."""
    rows: list[Row] = []
    size = 0
    for entry in entries:
        if size >= _PART_BYTES or len(rows) >= _PART_ROWS:
            yield rows, False
            rows, size = [], 0
        rows.append((entry.key, entry.data, entry.scope or "global", entry.stamp, entry.expires_ms))
        size += entry.size
    yield rows, True


def _signature(directory: str, name: str, body: bytes, secret: bytes) -> bytes:
    """Sign name and content; without a secret it only shows damage."""
    return hmac.new(secret or _MAGIC, f"{directory}/{name}\n".encode() + body, sha256).digest()


def _parsed(name: str) -> ChangeFile | None:
    stem, dot, kind = name.rpartition(".")
    generation, dash, seq = stem.rpartition("-")
    if not (dot and dash and generation and f".{kind}" in (_FIRST, _MORE, _CHANGES)):
        return None
    return ChangeFile(generation, int(seq), f".{kind}") if seq.isascii() and seq.isdigit() else None
