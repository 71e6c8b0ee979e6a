"""Priority queue, FIFO among equals. Pure: no clock, no thread."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any, Generic, TypeVar

__all__ = ["PriorityQueue", "Ticket"]

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Ticket(Generic[T]):
    """A place in the queue; `item` is None after it was taken or cancelled."""

    item: T | None


class PriorityQueue(Generic[T]):
    """Releases waiting items by ascending priority, then in arrival order.

    A cancelled ticket stays in the heap until it surfaces; when more than half of the heap is
    cancelled it is rebuilt, so memory stays bounded by waiting items.

    >>> queue = PriorityQueue[str]()
    >>> late = queue.push(5, "late"); first = queue.push(1, "first"); queue.cancel(late)
    True
    >>> queue.pop(), queue.pop(), queue.cancel(first)
    ('first', None, False)
    """

    def __init__(self) -> None:
        self._heap: list[tuple[Any, int, Ticket[T]]] = []
        self._pushed = 0
        self._live = 0

    def __len__(self) -> int:
        return self._live

    def push(self, priority: object, item: T) -> Ticket[T]:
        """Add `item`.

        Raises:
            TypeError: if `priority` can't be compared with those of waiting items; the queue is unchanged.
        """
        ticket = Ticket(item)
        self._pushed += 1
        try:
            heappush(self._heap, (priority, self._pushed, ticket))
        except Exception:
            self._keep(lambda other: other is not ticket)
            raise
        self._live += 1
        return ticket

    def pop(self) -> T | None:
        """Take the next item; None if no item waits."""
        while self._heap:
            ticket = heappop(self._heap)[2]
            if (item := ticket.item) is not None:
                ticket.item = None
                self._live -= 1
                return item
        return None

    def cancel(self, ticket: Ticket[T]) -> bool:
        """Cancel `ticket`; False if its item was taken already."""
        if ticket.item is None:
            return False
        ticket.item = None
        self._live -= 1
        if len(self._heap) > 2 * self._live + 16:
            self._keep(lambda other: other.item is not None)
        return True

    def _keep(self, wanted: Any) -> None:
        self._heap = [entry for entry in self._heap if wanted(entry[2])]
        heapify(self._heap)
