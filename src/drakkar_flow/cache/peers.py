"""Peer sync: a thread that writes the change files of a worker and reads those of the others.

A bad peer costs at most `peer_s` of a round, and no peer holds up the flow or the writes of the cache.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from drakkar_flow.cache.cache import WorkerCache
from drakkar_flow.cache.change_files import (
    ChangeFile,
    ChangeWriter,
    Content,
    Refused,
    change_files,
    read_change_file,
    travels,
)
from drakkar_flow.cache.file import CacheFile, Cursor
from drakkar_flow.cache.settings import PeerSettings
from drakkar_flow.kernel.cache_entries import CacheEntry
from drakkar_flow.kernel.hybrid_clock import latest_stamp
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.cache import CacheDropped, CachePeerFailed, CachePeerSynced
from drakkar_flow.storage.directory import DirectoryRefused, Purpose, safe_name

__all__ = ["PeerSync"]

_PURPOSE: Final = Purpose("exchange cached values in", "cache.peer_sync.dir", "change files", "cache")
_MAX_QUEUED = 100_000  # changes that wait for a file; beyond that a snapshot has them
_ROWS = 5000  # of a query for a snapshot
_ABANDONED_S = 7 * 24 * 3600  # after which the directory of a worker that is gone is removed
_FAILURES = (OSError, Refused, DirectoryRefused, sqlite3.Error, UnicodeError, OverflowError)


class PeerSync:
    """Exchanges the entries of `file` with those of other workers, from `start` to `close`."""

    def __init__(
        self, settings: PeerSettings, root: Path, worker: str, cache: WorkerCache, file: CacheFile, bus: Bus
    ) -> None:
        self._settings = settings
        self._root = root
        self._worker = worker
        self._cache = cache
        self._file = file
        self._bus = bus
        self._own = root / safe_name(worker)
        self._writer = ChangeWriter(self._own, worker, settings.cluster, settings.secret)
        self._queue: deque[CacheEntry] = deque(maxlen=_MAX_QUEUED)
        self._seen: dict[str, tuple[Cursor, set[str]]] = {}
        self._first = 0
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="drakkar-cache-peers", daemon=True)

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: the host lacks threads.
        """
        self._thread.start()

    def note(self, entries: Sequence[CacheEntry]) -> None:
        """Pass on changes that the file has; returns at once."""
        shared = [entry for entry in entries if travels(entry)]
        if len(self._queue) + len(shared) > _MAX_QUEUED:
            self._writer.needs_snapshot = True
        self._queue.extend(shared)
        if shared:
            self._wake.set()

    def close(self, timeout_s: float) -> None:
        """Write the queued changes, for at most `timeout_s`; the next start does the rest."""
        self._closing = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    # --- on the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        pulled_at = -self._settings.interval_s
        while not self._closing:
            self.push()
            if time.monotonic() - pulled_at >= self._settings.interval_s:
                pulled_at = time.monotonic()
                self.pull()
            left_s = self._settings.interval_s - (time.monotonic() - pulled_at)
            self._wake.wait(max(0.0, left_s))
            self._wake.clear()
        self.push()

    def push(self) -> None:
        """Write the queued changes, or a snapshot if changes may be missing. Never raises."""
        try:
            self._push()
        except Exception as exc:
            self._fail(self._worker, exc)

    def _push(self) -> None:
        entries = [self._queue.popleft() for _ in range(len(self._queue))]
        if not self._writer.needs_snapshot:
            if entries:
                self._writer.append(entries)
            if not self._writer.needs_snapshot:
                return
        if not self._own.exists() and not self._file.shared(self._worker, "", 1):
            return  # it has never shared anything
        self._make(self._own)
        if self._writer.is_disputed():
            raise Refused(f"another worker writes to {self._own}: give each worker its own name")
        self._writer.snapshot(self._shared_entries())

    def _shared_entries(self, origin: str = "") -> Iterator[CacheEntry]:
        after = ""
        while page := self._file.shared(origin or self._worker, after, _ROWS):
            yield from page
            after = page[-1].key

    def _make(self, directory: Path) -> None:
        """Make a directory; without a secret it must be writable for this user alone."""
        if self._settings.secret:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        else:
            _PURPOSE.make(directory)

    def pull(self) -> None:
        """Read the new change files of all peers, for at most the time of a round. Never raises."""
        ends_at = time.monotonic() + self._settings.round_s
        try:
            self._make(self._root)
            with suppress(FileNotFoundError):
                os.utime(self._own)
            peers = sorted(path for path in self._root.iterdir() if path != self._own and path.is_dir())
        except Exception as exc:
            self._fail(self._worker, exc)
            return
        for index in range(len(peers)):
            if self._closing or time.monotonic() >= ends_at:
                self._first += index  # the next round begins with those left out
                return
            self._pull_from(peers[(self._first + index) % len(peers)], ends_at)

    def _pull_from(self, directory: Path, round_ends_at: float) -> None:
        peer = unquote(directory.name)
        fetched = upserted = 0
        ends_at = min(round_ends_at, time.monotonic() + self._settings.peer_s)
        try:
            if not self._settings.secret:
                _PURPOSE.make(directory)
            for entries, cursor in self._pages(directory, peer):
                now_ms = int(time.time() * 1000)
                kept = [entry for entry in entries if entry.stamp <= latest_stamp(now_ms)]
                if len(kept) < len(entries):
                    reason = f"the clock of {peer} is more than 5 min ahead"
                    self._bus.emit(CacheDropped("ahead", len(entries) - len(kept), reason))
                upserted += self._file.take(peer, kept, cursor, now_ms)
                self._cache.merge(kept)
                fetched += len(entries)
                if self._closing:
                    break
                if time.monotonic() >= ends_at:
                    raise TimeoutError(f"its changes took longer than {self._settings.peer_s:g} s; the rest follows")
            self._remove_if_abandoned(directory)
        except Exception as exc:
            self._fail(peer, exc)
        if fetched:
            self._bus.emit(CachePeerSynced(peer, fetched, upserted))

    def _pages(self, directory: Path, peer: str) -> Iterator[tuple[list[CacheEntry], Cursor]]:
        """Yield the entries of files that were not read yet, with the place after each page."""
        files = change_files(directory)
        if not files:
            return
        cursor = self._continued(peer, files[0])
        for file in files:
            if file.seq <= cursor.seq:
                continue
            if file.seq != cursor.seq + 1:
                return  # a file is missing: it is being written, or replaced by a snapshot
            content = read_change_file(directory, file, self._settings.secret)
            if safe_name(content.worker) != directory.name:
                raise Refused(f"{directory / file.name} belongs to {content.worker}")
            entries = list(content.entries(self._settings.cluster))
            page, in_snapshot = self._settings.page, not cursor.whole
            while len(entries) - cursor.row > page:
                start = cursor.row
                cursor = cursor._replace(row=start + page)
                yield entries[start : start + page], cursor
            start = cursor.row
            cursor = cursor._replace(seq=file.seq, whole=cursor.whole or content.last, row=0)
            yield entries[start:], cursor
            if in_snapshot:
                self._note_snapshot(peer, content, cursor)

    def _continued(self, peer: str, first: ChangeFile) -> Cursor:
        """Return the place to go on from: that of the last time, or the begin of the snapshot."""
        cursor = self._file.cursor(peer)
        same = cursor.generation == first.generation
        if same and cursor.whole and cursor.seq >= first.seq - 1:
            return cursor  # has all the snapshot has
        known, _ = self._seen.get(peer, (Cursor(), set()))
        if same and not cursor.whole and (known.generation, known.base) == (first.generation, first.seq):
            return cursor
        cursor = Cursor(first.generation, first.seq, first.seq - 1)
        self._seen[peer] = (cursor, set())
        return cursor

    def _note_snapshot(self, peer: str, content: Content, cursor: Cursor) -> None:
        """Remember the keys of a snapshot; when it is whole, remove entries of the peer that it does not have."""
        _, seen = self._seen[peer]
        seen.update(row[0] for row in content.rows)
        if cursor.whole:
            del self._seen[peer]
            gone = [entry for entry in self._shared_entries(content.worker) if entry.key not in seen]
            self._file.drop(gone)
            self._cache.drop(gone)

    def _remove_if_abandoned(self, directory: Path) -> None:
        if time.time() - directory.stat().st_mtime > _ABANDONED_S:
            for path in directory.iterdir():
                path.unlink(missing_ok=True)
            directory.rmdir()

    def _fail(self, peer: str, error: Exception) -> None:
        bug = "" if isinstance(error, _FAILURES) else f"bug: {type(error).__name__}: "
        self._bus.emit(CachePeerFailed(peer, f"{bug}{error}", isinstance(error, TimeoutError)))
