"""Cache of a flow, and of a handler: a handle of the worker's cache while the flow runs."""

from __future__ import annotations

from typing import Any

from drakkar_flow.model.cache import CacheLike, CacheScope

__all__ = ["Cache", "NoCache"]


class NoCache:
    """Accepts the calls of a cache and stores nothing: every key is missing.

    >>> cache = NoCache()
    >>> cache.set("user:1", "Ada", ttl=60)
    >>> cache.peek("user:1"), "user:1" in cache, cache.delete("user:1")
    (None, False, False)
    """

    def set(self, key: str, value: Any, *, ttl: float | None = None, scope: CacheScope = CacheScope.LOCAL) -> None:
        """Drop `value`."""

    def peek(self, key: str) -> Any:
        """Return None."""
        return None

    async def get(self, key: str, *, as_type: Any = None) -> Any:
        """Return None."""
        return None

    def delete(self, key: str) -> bool:
        """Return False: there was no value."""
        return False

    def __contains__(self, key: object) -> bool:
        return False


class Cache:
    """The worker's cache, for the functions of a flow: `StreamFlow("scan", cache=cache)`.

    It has the methods of `CacheLike`. Before the flow has connected everything, after its end, and with
    `cache.enabled: false` it stores nothing. All flows of a process have one cache.

    >>> cache = Cache()
    >>> cache.set("user:1", "Ada")
    >>> cache.peek("user:1") is None
    True
    """

    def __init__(self) -> None:
        self._target: CacheLike = NoCache()

    def bind(self, target: CacheLike | None) -> None:
        """Use the cache of a running flow, or none; the library calls it."""
        self._target = NoCache() if target is None else target

    def set(self, key: str, value: Any, *, ttl: float | None = None, scope: CacheScope = CacheScope.LOCAL) -> None:
        """Store `value`; see `CacheLike.set`."""
        self._target.set(key, value, ttl=ttl, scope=scope)

    def peek(self, key: str) -> Any:
        """Return the value in memory, or None; see `CacheLike.peek`."""
        return self._target.peek(key)

    async def get(self, key: str, *, as_type: Any = None) -> Any:
        """Return the value, or None; see `CacheLike.get`."""
        return await self._target.get(key, as_type=as_type)

    def delete(self, key: str) -> bool:
        """Delete `key`; True if it was in memory."""
        return self._target.delete(key)

    def __contains__(self, key: object) -> bool:
        return key in self._target
