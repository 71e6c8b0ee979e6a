"""LRU bookkeeping: values by key, bounded by number and by bytes; the least recently used go first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["Lru"]

T = TypeVar("T")


class Lru(Generic[T]):
    """Keeps the values used last.

    >>> lru = Lru[int](max_entries=2)
    >>> lru.put("a", 1, size=1), lru.put("b", 2, size=1), lru.put("c", 3, size=1)
    (0, 0, 1)
    >>> list(lru.values)
    ['b', 'c']
    """

    def __init__(self, max_entries: int | None = None, max_size: int | None = None) -> None:
        self.values: OrderedDict[str, T] = OrderedDict()
        """Values, the least recently used first. `values.move_to_end(key)` marks a use."""
        self.size = 0
        """Sum of the sizes."""
        self._sizes: dict[str, int] = {}
        self._max_entries = max_entries
        self._max_size = max_size

    def put(self, key: str, value: T, size: int) -> int:
        """Keep a value as the one used last; returns how many others went for it.

        A value larger than all may be together is not kept.
        """
        self.discard(key)
        if self._max_size is not None and size > self._max_size:
            return 0
        self.values[key] = value
        self._sizes[key] = size
        self.size += size
        evicted = 0
        while (self._max_entries is not None and len(self.values) > self._max_entries) or (
            self._max_size is not None and self.size > self._max_size
        ):
            oldest, _ = self.values.popitem(last=False)
            self.size -= self._sizes.pop(oldest)
            evicted += 1
        return evicted

    def discard(self, key: str) -> T | None:
        """Remove a key; returns its value."""
        value = self.values.pop(key, None)
        self.size -= self._sizes.pop(key, 0)
        return value
