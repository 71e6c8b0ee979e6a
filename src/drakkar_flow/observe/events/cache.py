"""Events of the cache."""

from __future__ import annotations

from drakkar_flow.observe.events.base import Event

__all__ = [
    "CacheChanged",
    "CacheCleaned",
    "CacheDropped",
    "CacheFlushFailed",
    "CacheFlushed",
    "CachePeerFailed",
    "CachePeerSynced",
    "CacheStarted",
    "CacheUsed",
]


class CacheStarted(Event, frozen=True):
    """The cache writes to a file."""

    path: str


class CacheChanged(Event, frozen=True):
    """The cache changed how it stores entries, because of `reason`.

    `state` is `stored`, or `memory` (nothing is written to disk).
    """

    state: str
    reason: str = ""


class CacheUsed(Event, frozen=True):
    """Uses since the last such event, and the present size.

    `writes` has the number of writes by scope.
    """

    hits_memory: int = 0
    hits_db: int = 0
    misses: int = 0
    writes: tuple[tuple[str, int], ...] = ()
    deletes: int = 0
    evictions: int = 0
    entries_in_memory: int = 0
    bytes_in_memory: int = 0
    entries_in_db: int = 0
    bytes_in_db: int = 0


class CacheDropped(Event, frozen=True):
    """The cache did not keep `count` entries.

    `kind` is `too_large`, `queue_full` (not written in time), `unreadable` (does not fit `as_type`), `unread` (the
    file can't be read) or `ahead` (from a worker whose clock is wrong).
    """

    kind: str
    count: int = 1
    reason: str = ""


class CacheFlushed(Event, frozen=True):
    """Changes were written to the file: `written` values, `deleted` keys."""

    written: int
    deleted: int


class CacheFlushFailed(Event, frozen=True):
    """Changes could not be written; they stay queued."""

    reason: str
    count: int = 0


class CacheCleaned(Event, frozen=True):
    """Entries were removed from the file: `expired` ones, and the oldest because the file was too large (`evicted`)."""

    expired: int
    evicted: int = 0


class CachePeerSynced(Event, frozen=True):
    """Entries of another worker were read (`fetched`), and those that are newer were taken (`upserted`)."""

    peer: str
    fetched: int
    upserted: int


class CachePeerFailed(Event, frozen=True):
    """Entries of another worker could not be read, or those of this one not be written; `timeout` if time was over."""

    peer: str
    reason: str
    timeout: bool = False
