"""Per-key FIFO: items that share a key run one at a time, in arrival order."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable
from typing import Generic, Literal, TypeVar

__all__ = ["KeyedQueue", "Keys", "Ordering"]

T = TypeVar("T")

Ordering = Literal["unordered", "key", "partition"]
"""Scope of the order: none, the records of a partition with the same key, or a whole partition."""

Keys = Collection[Hashable]
"""Ordering keys of an item, each once; empty for an unordered item."""


class _Waiting(Generic[T]):
    """A waiting item; `missing` counts the keys in which it is not first yet."""

    __slots__ = ("item", "missing")

    def __init__(self, item: T) -> None:
        self.item = item
        self.missing = 0


class KeyedQueue(Generic[T]):
    """Releases items, at most `limit` concurrently; items that share a key one at a time in arrival order.

    An item with several keys queues for all of them on arrival and is released when it is first in
    each. Items only wait for earlier ones, so there is no deadlock. All operations take constant
    time per key; memory is bounded by released and waiting items.

    >>> turns = KeyedQueue[str](limit=2)
    >>> for item, key in (("a1", "a"), ("a2", "a"), ("b1", "b")):
    ...     turns.put(item, [key])
    >>> turns.next(), turns.next(), turns.next()
    ('a1', 'b1', None)
    >>> turns.release(["a"]), turns.next()
    (True, 'a2')
    """

    def __init__(self, limit: float = float("inf")) -> None:
        self._limit = limit
        self._out = 0
        self._ready: deque[T] = deque()
        self._lines: dict[Hashable, deque[_Waiting[T]] | None] = {}  # items behind the holder of the key; None: no item

    def put(self, item: T, keys: Keys = ()) -> None:
        """Queue `item`."""
        waiting: _Waiting[T] | None = None
        lines = self._lines
        for key in keys:
            if key not in lines:
                lines[key] = None
                continue
            if waiting is None:
                waiting = _Waiting(item)
            waiting.missing += 1
            line = lines[key]
            if line is None:
                lines[key] = deque((waiting,))
            else:
                line.append(waiting)
        if waiting is None:
            self._ready.append(item)

    def acquire(self, keys: Keys) -> bool:
        """Release an item immediately, whatever the limit; False if another item holds one of `keys`."""
        lines = self._lines
        if not lines.keys().isdisjoint(keys):
            return False
        for key in keys:
            lines[key] = None
        self._out += 1
        return True

    def next(self) -> T | None:
        """Release the next ready item; None if there is none, or the limit is reached."""
        if not self._ready or self._out >= self._limit:
            return None
        self._out += 1
        return self._ready.popleft()

    def release(self, keys: Keys = ()) -> bool:
        """End a released item, with its keys; True if another item may be ready."""
        self._out -= 1
        for key in keys:
            line = self._lines[key]
            if not line:
                del self._lines[key]
                continue
            waiting = line.popleft()
            waiting.missing -= 1
            if not waiting.missing:
                self._ready.append(waiting.item)
        return bool(self._ready)

    def is_free(self, keys: Keys) -> bool:
        """True if no item holds any of `keys`: an item with them would be ready immediately."""
        return self._lines.keys().isdisjoint(keys)

    def __len__(self) -> int:
        """Number of held keys."""
        return len(self._lines)
