"""Protocol of `self.cache` in a handler."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

__all__ = ["CacheLike", "CacheScope"]


class CacheScope(StrEnum):
    """Visibility of an entry: this run, this worker, the workers of its cluster, or all."""

    MEMORY = "memory"
    LOCAL = "local"
    CLUSTER = "cluster"
    GLOBAL = "global"


@runtime_checkable
class CacheLike(Protocol):
    """The methods of a handler's cache; a test may replace it by any object with them."""

    def set(self, key: str, value: Any, *, ttl: float | None = None, scope: CacheScope = CacheScope.LOCAL) -> None:
        """Store `value`, which must have a JSON form, for `ttl` seconds or without limit."""

    def peek(self, key: str) -> Any:
        """Return the value in memory under `key`, or None."""

    async def get(self, key: str, *, as_type: Any = None) -> Any:
        """Return the stored value under `key`, as an `as_type` if one is given, or None."""

    def delete(self, key: str) -> bool:
        """Delete `key`; True if it was in memory."""
        ...

    def __contains__(self, key: object) -> bool: ...
