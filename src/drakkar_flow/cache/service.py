"""Cache service: the thread that writes a worker's cache to its file, removes old entries, and counts.

A trouble never leaves it: the cache continues in memory, and the state is emitted as an event.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from drakkar_flow.cache.cache import WorkerCache
from drakkar_flow.cache.file import TOMBSTONE_MS, CacheFile, is_damage, open_file
from drakkar_flow.cache.peers import PeerSync
from drakkar_flow.cache.reader import FileReader
from drakkar_flow.cache.settings import CacheSettings
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.cache import (
    CacheChanged,
    CacheCleaned,
    CacheFlushed,
    CacheFlushFailed,
    CacheStarted,
)
from drakkar_flow.storage.directory import DirectoryRefused, Purpose, WorkerDirectory, safe_name
from drakkar_flow.storage.sqlite import is_full

__all__ = ["CACHE", "CacheService"]

CACHE: Final = Purpose("cache in", "cache.db_dir", "cached values", "cache")
"""Directory of cache files."""
_OPEN_S = 2.0  # that a start waits for the file; later it is opened beside the flow
_BATCH = 10_000  # changes of one transaction
_MEASURE_S = 10.0  # between two measurements of the file
_READER_S = 1.0  # for the reader to end
_FULL_SHARE = 0.9  # of the used size, that is left when the disk is full
_FAILURES = (sqlite3.Error, OSError, UnicodeError, OverflowError)


class CacheService:
    """Serves `cache` from `start` to `close`."""

    def __init__(self, settings: CacheSettings, bus: Bus) -> None:
        self._settings = settings
        self._bus = bus
        self.cache = WorkerCache(settings.worker, bus, max_entries=settings.max_entries, max_size=settings.max_size)
        self._wake = threading.Event()
        self._opened = threading.Event()
        self._closing = False
        self._root = Path()
        self._place: WorkerDirectory | None = None
        self._file: CacheFile | None = None
        self._reader: FileReader | None = None
        self._peers: PeerSync | None = None
        self._write_after = 0.0
        self._measured_at = float("-inf")
        self._measured: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="drakkar-cache", daemon=True)

    def start(self) -> None:
        """Open the file on a thread; waits at most 2 s for it."""
        self.cache.store(self._wake.set)
        try:
            self._thread.start()
        except RuntimeError as exc:  # the host lacks threads
            self._continue_in_memory(str(exc))
            return
        self._opened.wait(_OPEN_S)

    def close(self, timeout_s: float) -> None:
        """Write the queued changes and close the file, for at most `timeout_s`."""
        self._closing = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def disown(self) -> None:
        """Release the lock in a forked child, where the cache belongs to the worker."""
        if self._place is not None:
            self._place.release()

    # --- on the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._open()
            self._opened.set()
            cleaned_at = time.monotonic()
            while not self._closing:
                self._wake.wait(self._settings.flush_s)
                self._wake.clear()
                self._flush()
                if time.monotonic() - cleaned_at >= self._settings.cleanup_s:
                    cleaned_at = time.monotonic()
                    self._clean()
                self._report()
            self._write_after = 0.0
            self._flush()
            self._report()
        except Exception as exc:  # a bug of ours must cost the file, not the flow
            self._continue_in_memory(f"bug: {type(exc).__name__}: {exc}")
        finally:
            self._opened.set()
            self._let_go()

    def _open(self) -> None:
        settings = self._settings
        try:
            root = CACHE.root(settings.directory, settings.environ)
            self._root = root
            self._place = WorkerDirectory.take(root, settings.worker, CACHE)
            self._use(self._place)
        except DirectoryRefused as exc:
            self._continue_in_memory(str(exc))
        except (*_FAILURES, RuntimeError) as exc:
            self._continue_in_memory(f"{type(exc).__name__}: {exc}")
        else:
            self._bus.emit(CacheStarted(str(self._file.path if self._file is not None else "")))
            self._clean()

    def _use(self, place: WorkerDirectory, damage: str = "") -> None:
        self._file, given_up = open_file(place.path, damage)
        self._reader = FileReader(self._file, self._bus)
        worker = self._settings.worker
        origin = worker if place.path.name == safe_name(worker) else f"{worker}+{os.getpid()}"
        peers = self._settings.peers
        if peers is not None and time.time() * 1000 - self._file.used_at_ms > TOMBSTONE_MS:
            self._file.drop_shared()
        self.cache.attach(self._reader, self._file.last_stamp(), origin)
        if peers is not None:
            directory = self._root / ".changes" if peers.directory is None else peers.directory.expanduser()
            self._peers = PeerSync(peers, directory, origin, self.cache, self._file, self._bus)
            self._peers.start()
        if given_up:
            self._bus.emit(CacheChanged("stored", given_up))

    def _continue_in_memory(self, reason: str) -> None:
        self.cache.detach()
        self._bus.emit(CacheChanged("memory", reason))

    def _flush(self) -> None:
        file = self._file
        if file is None or time.monotonic() < self._write_after:
            return
        while entries := self.cache.take_changes(_BATCH):
            try:
                file.write(entries, int(time.time() * 1000), travelling=self._peers is not None)
            except _FAILURES as exc:
                self.cache.put_back()
                self._failed(file, exc, len(entries))
                return
            self.cache.changes_written()
            if self._peers is not None:
                self._peers.note(entries)
            deleted = sum(entry.data is None for entry in entries)
            self._bus.emit(CacheFlushed(len(entries) - deleted, deleted))

    def _failed(self, file: CacheFile, error: Exception, count: int = 0) -> None:
        """React to a failed write: make space, or begin a new file; else try again later."""
        self._bus.emit(CacheFlushFailed(f"{type(error).__name__}: {error}", count))
        self._write_after = time.monotonic() + self._settings.again_s
        try:
            if is_full(error):
                file.clean(int(time.time() * 1000), int(file.used() * _FULL_SHARE))
            elif is_damage(error) and self._place is not None:
                self._close_file()
                self._use(self._place, str(error))
                self._write_after = 0.0
        except (*_FAILURES, RuntimeError) as exc:
            if self._file is None:
                self._continue_in_memory(f"{type(exc).__name__}: {exc}")

    def _clean(self) -> None:
        file = self._file
        if file is None:
            return
        try:
            expired, evicted = file.clean(int(time.time() * 1000), self._settings.max_file_size)
        except _FAILURES as exc:
            self._failed(file, exc)
            return
        if expired or evicted:
            self._bus.emit(CacheCleaned(expired, evicted))

    def _report(self) -> None:
        if self._file is not None and time.monotonic() - self._measured_at >= _MEASURE_S:
            self._measured_at = time.monotonic()
            with suppress(sqlite3.Error):  # the next write reports it
                self._measured = {"entries_in_db": self._file.count(), "bytes_in_db": self._file.used()}
        self._bus.emit(replace(self.cache.usage(), **self._measured))

    def _close_file(self) -> None:
        if self._peers is not None:
            self._peers.close(_READER_S)
            self._peers = None
        if self._reader is not None:
            self._reader.close(_READER_S)
            self._reader = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def _let_go(self) -> None:
        self._close_file()
        if self._place is not None:
            self._place.release()
