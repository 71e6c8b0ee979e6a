"""Order by key: work that shares a key goes one at a time, in the order it came."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable
from typing import Generic, Literal, TypeVar

__all__ = ["Keys", "Ordering", "Turns"]

T = TypeVar("T")

Ordering = Literal["unordered", "key", "partition"]
"""What goes one at a time: nothing, the records of a partition with the same key, or a whole partition."""

Keys = Collection[Hashable]
"""What an item must not overtake others in, each key once; empty for an item that waits for nobody."""


class _Waiting(Generic[T]):
    """An item behind others; `missing` counts the keys in which it is not first yet."""

    __slots__ = ("item", "missing")

    def __init__(self, item: T) -> None:
        self.item = item
        self.missing = 0


class Turns(Generic[T]):
    """Gives items out, at most `limit` at once, those that share a key one at a time and first come, first served.

    An item with several keys gets in line for all of them when it comes and goes when it is first
    in each. Whoever waits, waits for someone who came earlier, so there is no deadlock. All
    operations take constant time per key; memory is bounded by what is out and what waits.

    >>> turns = Turns[str](limit=2)
    >>> for item, key in (("a1", "a"), ("a2", "a"), ("b1", "b")):
    ...     turns.enter(item, [key])
    >>> turns.next(), turns.next(), turns.next()
    ('a1', 'b1', None)
    >>> turns.leave(["a"]), turns.next()
    (True, 'a2')
    """

    def __init__(self, limit: float = float("inf")) -> None:
        self._limit = limit
        self._out = 0
        self._ready: deque[T] = deque()
        self._lines: dict[Hashable, deque[_Waiting[T]] | None] = {}  # behind whoever has the key; None: nobody

    def enter(self, item: T, keys: Keys = ()) -> None:
        """Get `item` in line."""
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

    def take(self, keys: Keys) -> bool:
        """Give an item out at once, whatever the limit; False when it has to enter, for others have one of `keys`."""
        lines = self._lines
        if not lines.keys().isdisjoint(keys):
            return False
        for key in keys:
            lines[key] = None
        self._out += 1
        return True

    def next(self) -> T | None:
        """Give an item out whose turn it is; None when there is none, or as many are out as may be."""
        if not self._ready or self._out >= self._limit:
            return None
        self._out += 1
        return self._ready.popleft()

    def leave(self, keys: Keys = ()) -> bool:
        """Note that an item that was given out is over, with the keys it came with; whether there may be a next one."""
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
        """Whether nobody has any of `keys`, so that an item with them would be ready at once."""
        return self._lines.keys().isdisjoint(keys)

    def __len__(self) -> int:
        """How many keys are taken."""
        return len(self._lines)
