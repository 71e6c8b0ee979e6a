"""Protocol of `self.cache` in a handler."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

__all__ = ["CacheLike", "CacheScope"]


class CacheScope(StrEnum):
    """Who sees an entry: nothing but this run, this worker, the workers of its cluster, or all."""

    MEMORY = "memory"
    LOCAL = "local"
    CLUSTER = "cluster"
    GLOBAL = "global"


@runtime_checkable
class CacheLike(Protocol):
    """The calls of a handler's cache; a test may put anything in its place that answers to them."""

    def set(self, key: str, value: Any, *, ttl: float | None = None, scope: CacheScope = CacheScope.LOCAL) -> None:
        """Keep `value`, which JSON has to have a form for, for `ttl` seconds or without end."""

    def peek(self, key: str) -> Any:
        """What is in memory under `key`, or None."""

    async def get(self, key: str, *, as_type: Any = None) -> Any:
        """What is kept under `key`, as an `as_type` if one is given, or None."""

    def delete(self, key: str) -> bool:
        """Forget `key`; tells whether it was in memory."""
        ...

    def __contains__(self, key: object) -> bool: ...
