"""Cache of a worker: the values in memory, the queue of changes for the file, and the API of hooks.

Everything but `get` is one step in memory and may be called from any thread. A worker's file and peers are served by
`service.py`; without them, as in the testing kit, the cache is in memory alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from math import isfinite
from threading import Lock
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from pydantic import TypeAdapter

from drakkar_flow.kernel.cache_entries import CacheEntry, wins
from drakkar_flow.kernel.hybrid_clock import HybridClock, latest_stamp
from drakkar_flow.kernel.lru import Lru
from drakkar_flow.model.cache import CacheScope
from drakkar_flow.model.codec import decoder_for, encode
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.cache import CacheDropped, CacheUsed

__all__ = ["MAX_VALUE_BYTES", "EntryReader", "WorkerCache"]

MAX_VALUE_BYTES: Final = 1024 * 1024
"""The largest key and value together."""
_MAX_QUEUED_BYTES = 64 * 1024 * 1024
_WAKE_AT = 1000  # queued changes at which the file is written at once
_OVERHEAD = 400  # bytes of an entry in memory, beside key and value
_LATER: Final = object()  # marks a value that is decoded at each read, so that the cached one never changes
_SCALARS = frozenset({str, int, float, bool, type(None)})

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class EntryReader(Protocol):
    """Reads entries from the file, on another thread."""

    def ask(self, key: str, answer: Callable[[CacheEntry | None], None]) -> None:
        """Read a key, then call `answer` on any thread; with None if there is no entry."""


class _Held(NamedTuple):
    """An entry in memory; `plain` is its value, or `_LATER`; `expires_s` is seconds since the epoch."""

    entry: CacheEntry
    plain: Any
    expires_s: float | None


class _Read:
    """A read of a key; several calls may wait for it."""

    __slots__ = ("answer", "changed")

    def __init__(self, answer: asyncio.Future[CacheEntry | None]) -> None:
        self.answer = answer
        self.changed = False


class WorkerCache:
    """Cache of one worker; `origin` is the worker's name in its entries.

    >>> cache = WorkerCache("w-1", Bus())
    >>> cache.set("user:1", {"name": "Ada"}, ttl=60)
    >>> cache.peek("user:1"), "user:2" in cache
    ({'name': 'Ada'}, False)
    """

    def __init__(
        self,
        origin: str,
        bus: Bus,
        *,
        max_entries: int | None = 10_000,
        max_size: int | None = None,
        max_queued: int = 200_000,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._origin = origin
        self._bus = bus
        self._now = now
        self._lock = Lock()
        self._lru: Lru[_Held] = Lru(max_entries, max_size)
        self._held = self._lru.values.get
        self._touch = self._lru.values.move_to_end
        self._clock = HybridClock()
        self._queue: OrderedDict[str, CacheEntry] = OrderedDict()
        self._queue_size = 0
        self._max_queued = max_queued  # changes that wait for the file
        self._writing: dict[str, CacheEntry] = {}
        self._reads: dict[str, _Read] = {}
        self._answers: deque[tuple[str, CacheEntry | None]] = deque()
        self._reader: EntryReader | None = None
        self._stored = False
        self._wake: Callable[[], object] = bool
        self._counts: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()

    # --- the API of hooks -------------------------------------------------------------------------

    def set(
        self, key: str, value: Any, *, ttl: float | None = None, scope: CacheScope | str = CacheScope.LOCAL
    ) -> None:
        """Store `value` for `ttl` seconds or without limit; see `CacheLike.set`."""
        data = _json_of(key, value)
        name = _scope_of(scope)
        if ttl is not None and (isinstance(ttl, bool) or not isinstance(ttl, int | float) or not _is_ttl(ttl)):
            raise ValueError(f"cache.set({key!r}): ttl is {ttl!r}, expected seconds above 0, or None")
        if len(key) + len(data) > MAX_VALUE_BYTES:
            self.delete(key)  # else an older value would stay
            reason = f"{key[:100]!r} has {len(data):,} bytes, at most {MAX_VALUE_BYTES:,} are stored"
            self._bus.emit(CacheDropped("too_large", 1, reason))
            return
        with self._lock:
            now_ms = int(self._now() * 1000)
            expires_ms = None if ttl is None else now_ms + max(1, int(ttl * 1000))
            entry = CacheEntry(key, data, name, self._clock.tick(now_ms), self._origin, expires_ms)
            self._counts[name] += 1
            if self._stored:
                self._note_change(entry)
            self._remember(entry, value if type(value) in _SCALARS else _LATER)

    def peek(self, key: str) -> Any:
        """Return the value in memory, or None; see `CacheLike.peek`."""
        held = self._held(key)
        if held is None or (held.expires_s is not None and self._now() >= held.expires_s):
            return None
        try:  # noqa: SIM105 - `suppress` takes as long as all the rest
            self._touch(key)
        except KeyError:  # another thread has removed it just now
            pass
        return held.plain if held.plain is not _LATER else _decode(held.entry.data or b"null")

    def hit(self, key: str) -> Any:
        """Return the value in memory, counted as a hit, or None."""
        value = self.peek(key)
        if value is not None:
            self._counts["hits_memory"] += 1
        return value

    async def get(self, key: str, *, as_type: Any = None) -> Any:
        """Return the value from memory or from the file, or None; see `CacheLike.get`."""
        held = self._held(key)
        if held is not None:
            value = self.peek(key)
            return self._answer(held.entry if value is not None else None, value, as_type, "hits_memory")
        entry = self._queue.get(key) or self._writing.get(key)
        source = "hits_memory"
        if entry is None and self._reader is not None:
            entry, source = await self._read(key, self._reader), "hits_db"
        if entry is None or entry.data is None or entry.has_expired(self._now() * 1000):
            return self._answer(None, None, as_type, source)
        value = _decode(entry.data)
        with self._lock:
            if self._held(key) is None and not self._is_older(entry):
                self._remember(entry, value if type(value) in _SCALARS else _LATER)
        return self._answer(entry, value, as_type, source)

    def delete(self, key: str) -> bool:
        """Delete a key; True if it was in memory; see `CacheLike.delete`."""
        with self._lock:
            held = self._lru.discard(key)
            self._counts["deletes"] += 1
            if self._stored:
                known = held.entry if held is not None else self._queue.get(key) or self._writing.get(key)
                scope = "" if known is None else known.scope
                if scope != CacheScope.MEMORY:
                    now_ms = int(self._now() * 1000)
                    self._note_change(CacheEntry(key, None, scope, self._clock.tick(now_ms), self._origin))
        return held is not None and (held.expires_s is None or self._now() < held.expires_s)

    def __contains__(self, key: object) -> bool:
        held = self._held(key) if isinstance(key, str) else None
        return held is not None and (held.expires_s is None or self._now() < held.expires_s)

    # --- the file's side --------------------------------------------------------------------------

    def store(self, wake: Callable[[], object]) -> None:
        """Queue changes for a file from now on; `wake` is called when many wait."""
        self._wake = wake
        self._stored = True

    def attach(self, reader: EntryReader, last_stamp: int, origin: str = "") -> None:
        """Read missing keys from the file; stamps continue after its last one, under another `origin` if given."""
        with self._lock:
            self._clock.observe(last_stamp, int(self._now() * 1000))
            self._reader = reader
            self._origin = origin or self._origin

    def detach(self) -> None:
        """Continue in memory alone."""
        with self._lock:
            self._stored = False
            self._reader = None
            self._queue.clear()
            self._writing = {}
            self._queue_size = 0

    def take_changes(self, most: int) -> list[CacheEntry]:
        """Return the oldest queued changes; they count as being written until `changes_written` or `put_back`."""
        with self._lock:
            while self._queue and len(self._writing) < most:
                key, entry = next(iter(self._queue.items()))
                self._writing[key] = entry  # first, as `get` looks there without the lock
                del self._queue[key]
                self._queue_size -= entry.size
            return list(self._writing.values())

    def changes_written(self) -> None:
        """Forget the changes of `take_changes`: the file has them."""
        with self._lock:
            self._writing = {}

    def put_back(self) -> None:
        """Queue the changes of `take_changes` again, unless the key has changed since."""
        with self._lock:
            back = {key: entry for key, entry in self._writing.items() if key not in self._queue}
            self._queue_size += sum(entry.size for entry in back.values())
            self._queue = OrderedDict([*back.items(), *self._queue.items()])
            self._writing = {}
            self._bound_queue()

    def merge(self, entries: Iterable[CacheEntry]) -> None:
        """Replace entries in memory, and changes that wait, by newer ones of other workers."""
        with self._lock:
            now_ms = int(self._now() * 1000)
            latest = latest_stamp(now_ms)
            for entry in entries:
                self._clock.observe(entry.stamp, now_ms)
                self._mark_read(entry.key)
                held, queued = self._held(entry.key), self._queue.get(entry.key)
                if queued is not None and wins(entry, queued, latest):
                    del self._queue[entry.key]
                    self._queue_size -= queued.size
                if held is not None and wins(entry, held.entry, latest):
                    if entry.data is None or entry.has_expired(now_ms):
                        self._lru.discard(entry.key)
                    else:
                        self._remember(entry, _LATER)

    def drop(self, entries: Iterable[CacheEntry]) -> None:
        """Remove entries of other workers from memory, unless they have changed."""
        with self._lock:
            for entry in entries:
                held = self._held(entry.key)
                if held is not None and held.entry.stamp == entry.stamp and held.entry.origin == entry.origin:
                    self._lru.discard(entry.key)

    def report_to(self, bus: Bus) -> None:
        """Emit events on another bus from now on."""
        self._bus = bus

    def forget_run(self) -> None:
        """Remove what belongs to one run alone: entries of the scope MEMORY."""
        with self._lock:
            ended = [key for key, held in self._lru.values.items() if held.entry.scope == CacheScope.MEMORY]
            for key in ended:
                self._lru.discard(key)

    def usage(self) -> CacheUsed:
        """Return the uses since the last call, and the present size in memory."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
            dropped, self._dropped = self._dropped, Counter()
            entries, size = len(self._lru.values), self._lru.size
        for kind, count in dropped.items():
            self._bus.emit(CacheDropped(kind, count, "changes come faster than the file is written"))
        return CacheUsed(
            hits_memory=counts["hits_memory"],
            hits_db=counts["hits_db"],
            misses=counts["misses"],
            writes=tuple((scope.value, counts[scope]) for scope in CacheScope if counts[scope]),
            deletes=counts["deletes"],
            evictions=counts["evictions"],
            entries_in_memory=entries,
            bytes_in_memory=size,
        )

    # --- inner parts, called with the lock --------------------------------------------------------

    def _remember(self, entry: CacheEntry, plain: Any) -> None:
        expires_s = None if entry.expires_ms is None else entry.expires_ms / 1000
        evicted = self._lru.put(entry.key, _Held(entry, plain, expires_s), entry.size + _OVERHEAD)
        if evicted:
            self._counts["evictions"] += evicted

    def _note_change(self, entry: CacheEntry) -> None:
        """Queue a change for the file; a value for memory alone removes an earlier one from the file."""
        self._mark_read(entry.key)
        if entry.scope == CacheScope.MEMORY:
            held = self._held(entry.key)
            if held is not None and held.entry.scope == CacheScope.MEMORY:
                return
            entry = entry._replace(data=None, scope=CacheScope.LOCAL.value, expires_ms=None)
        before = self._queue.pop(entry.key, None)
        self._queue[entry.key] = entry
        self._queue_size += entry.size - (0 if before is None else before.size)
        self._bound_queue()
        if len(self._queue) == _WAKE_AT:
            self._wake()

    def _bound_queue(self) -> None:
        while len(self._queue) > self._max_queued or self._queue_size > _MAX_QUEUED_BYTES:
            _, oldest = self._queue.popitem(last=False)
            self._queue_size -= oldest.size
            self._dropped["queue_full"] += 1

    def _mark_read(self, key: str) -> None:
        if self._reads and (read := self._reads.get(key)) is not None:
            read.changed = True

    def _is_older(self, entry: CacheEntry) -> bool:
        """True if a change of the key that waits, or is being written, is another one."""
        known = self._queue.get(entry.key) or self._writing.get(entry.key)
        return known is not None and known is not entry

    # --- reading from the file, on the loop -------------------------------------------------------

    async def _read(self, key: str, reader: EntryReader) -> CacheEntry | None:
        read = self._reads.get(key)
        if read is None:
            loop = asyncio.get_running_loop()
            read = self._reads[key] = _Read(loop.create_future())

            def answered(entry: CacheEntry | None) -> None:
                self._answers.append((key, entry))
                if len(self._answers) == 1:  # else the loop is about to take them
                    with suppress(RuntimeError):  # the loop has ended
                        loop.call_soon_threadsafe(self._take_answers)

            reader.ask(key, answered)
        return await asyncio.shield(read.answer)

    def _take_answers(self) -> None:
        while self._answers:
            self._found(*self._answers[0])
            self._answers.popleft()  # after that: an answer that comes meanwhile sees this one, and wakes nothing

    def _found(self, key: str, entry: CacheEntry | None) -> None:
        with self._lock:
            read = self._reads.pop(key)
            if read.changed:  # the file was read before that
                held = self._held(key)
                entry = held.entry if held is not None else self._queue.get(key) or self._writing.get(key)
        if not read.answer.done():
            read.answer.set_result(entry)

    def _answer(self, entry: CacheEntry | None, value: Any, as_type: Any, source: str) -> Any:
        if entry is not None and entry.data is not None and as_type is not None:
            try:
                value = _decoder(as_type)(entry.data)
            except Exception as exc:  # written by another version of the program
                text = str(exc).splitlines()[0] if str(exc) else ""
                reason = f"{entry.key[:100]!r} does not fit {as_type!r}: {type(exc).__name__}: {text}"
                self._bus.emit(CacheDropped("unreadable", 1, reason))
                entry = value = None
        self._counts[source if entry is not None else "misses"] += 1
        return value


def _is_ttl(ttl: float) -> bool:
    return isfinite(ttl) and ttl > 0


def _scope_of(scope: Any) -> str:
    try:
        return CacheScope(scope).value
    except ValueError:
        known = ", ".join(scope.value for scope in CacheScope)
        raise ValueError(f"cache: scope is {scope!r}, expected one of {known}") from None


def _json_of(key: object, value: Any) -> bytes:
    if not isinstance(key, str):
        raise TypeError(f"cache: the key is {type(key).__name__} {key!r}, expected text: write str(key)")
    try:
        if not key.isascii():
            key.encode()
        if isinstance(value, bytes | bytearray | memoryview):
            raise TypeError(f"{type(value).__name__} has no JSON form")
        data = _encode(value) if isinstance(value, str) else encode(value)
    except (TypeError, ValueError, RecursionError) as exc:
        raise TypeError(f"cache.set({key!r}): the value can't be stored: {exc}: pass values with a JSON form") from None
    return data


@lru_cache(maxsize=256)
def _decoder(target: Any) -> Callable[[bytes], Any]:
    if target in (str, bytes):  # JSON here, and not the bytes themselves
        return TypeAdapter(target).validate_json
    return decoder_for(target)
