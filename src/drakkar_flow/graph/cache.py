"""Null object for `handler.cache`: every call works, nothing is stored."""

from __future__ import annotations

from typing import Any

from drakkar_flow.model.cache import CacheScope

__all__ = ["NoCache"]


class NoCache:
    """Accepts the calls of py-drakkar's cache and stores nothing: every key is missing.

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
