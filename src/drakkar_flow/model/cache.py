"""Protocol of `self.cache` in a handler."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

__all__ = ["CacheLike", "CacheScope", "CacheStore"]


class CacheScope(StrEnum):
    """Visibility of an entry: this run, this worker, the workers of its cluster, or all."""

    MEMORY = "memory"
    LOCAL = "local"
    CLUSTER = "cluster"
    GLOBAL = "global"


@runtime_checkable
class CacheLike(Protocol):
    """The methods of a cache; a test may replace it by any object with them.

    All but `get` work in memory: they never wait, and may be called from any thread.
    """

    def set(self, key: str, value: Any, *, ttl: float | None = None, scope: CacheScope = CacheScope.LOCAL) -> None:
        """Store `value` for `ttl` seconds or without limit.

        It is written to the file later, at most 3 s by default. Key and value together may have 1 MiB; a larger value
        is not stored, and counted.

        Raises:
            TypeError: the key is no text, or the value has no JSON form.
            ValueError: `ttl` is not above 0.
        """

    def peek(self, key: str) -> Any:
        """Return the value in memory under `key`, or None. It is a copy: to change it changes nothing in the cache."""

    async def get(self, key: str, *, as_type: Any = None) -> Any:
        """Return the value under `key` from memory or from the file, or None.

        With `as_type` it is one: a pydantic model, a msgspec struct or another type. A value that does not fit is
        missing, and counted. Call it on the event loop: in async hooks and functions.
        """

    def delete(self, key: str) -> bool:
        """Delete `key` everywhere; True if it was in memory."""
        ...

    def __contains__(self, key: object) -> bool:
        """True if `key` is in memory."""
        ...


class CacheStore(CacheLike, Protocol):
    """The cache of a running flow."""

    def hit(self, key: str) -> Any:
        """Return the value in memory, counted as a hit, or None."""
