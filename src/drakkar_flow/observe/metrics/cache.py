"""Metrics of the cache, updated from its events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.cache import (
    CacheChanged,
    CacheCleaned,
    CacheDropped,
    CacheFlushed,
    CacheFlushFailed,
    CachePeerFailed,
    CachePeerSynced,
    CacheStarted,
    CacheUsed,
)

__all__ = ["CacheMetrics"]

_SIZES = ("entries_in_memory", "bytes_in_memory", "entries_in_db", "bytes_in_db")


class _Count(Protocol):
    def __call__(self, name: str, *labels: str, by: float = 1) -> None: ...


class CacheMetrics:
    """Listener that counts with `count` and sets `gauges`."""

    def __init__(self, count: _Count, gauges: Mapping[str, Any]) -> None:
        self._count = count
        self._gauges = gauges

    def listen(self, bus: Bus) -> None:
        """Subscribe to `bus`."""
        bus.listen(CacheStarted, lambda _: self._gauges["cache_stored"].set(1))
        bus.listen(CacheChanged, lambda e: self._gauges["cache_stored"].set(e.state == "stored"))
        bus.listen(CacheUsed, self._on_used)
        bus.listen(CacheDropped, lambda e: self._count("cache_dropped_entries", e.kind, by=e.count))
        bus.listen(CacheFlushed, self._on_flushed)
        bus.listen(CachePeerSynced, self._on_synced)
        bus.listen(CachePeerFailed, self._on_peer_failed)
        bus.listen(CacheFlushFailed, lambda _: self._count("cache_flush_failures"))
        bus.listen(CacheCleaned, lambda e: self._count("cache_cleanup_removed", by=e.expired + e.evicted))

    def _on_used(self, event: CacheUsed) -> None:
        self._count("cache_hits", "memory", by=event.hits_memory)
        self._count("cache_hits", "db", by=event.hits_db)
        self._count("cache_misses", by=event.misses)
        for scope, count in event.writes:
            self._count("cache_writes", scope, by=count)
        self._count("cache_deletes", by=event.deletes)
        self._count("cache_evictions", by=event.evictions)
        for name in _SIZES:
            self._gauges[f"cache_{name}"].set(getattr(event, name))

    def _on_synced(self, event: CachePeerSynced) -> None:
        self._count("cache_sync_entries_fetched", event.peer, by=event.fetched)
        self._count("cache_sync_entries_upserted", event.peer, by=event.upserted)

    def _on_peer_failed(self, event: CachePeerFailed) -> None:
        if event.timeout:
            self._count("cache_peer_sync_timeouts")
        else:
            self._count("cache_sync_errors", event.peer)

    def _on_flushed(self, event: CacheFlushed) -> None:
        self._count("cache_flush_entries", "set", by=event.written)
        self._count("cache_flush_entries", "delete", by=event.deleted)
