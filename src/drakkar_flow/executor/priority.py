"""Priority queue, FIFO among equals. Pure: no clock, no thread."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any, Generic, TypeVar

__all__ = ["PriorityQueue", "Ticket"]

T = TypeVar("T")


Ticket = list[Any]
"""A place in the queue: priority, arrival, and the item, which is None after it was taken or cancelled."""


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
        self._heap: list[Ticket] = []
        self._pushed = 0
        self._live = 0

    def __len__(self) -> int:
        return self._live

    def push(self, priority: object, item: T) -> Ticket:
        """Add `item`.

        Raises:
            TypeError: if `priority` can't be compared with those of waiting items; the queue is unchanged.
        """
        self._pushed += 1
        ticket: Ticket = [priority, self._pushed, item]
        try:
            heappush(self._heap, ticket)
        except Exception:
            self._keep(lambda other: other is not ticket)
            raise
        self._live += 1
        return ticket

    def pop(self) -> T | None:
        """Take the next item; None if no item waits."""
        heap = self._heap
        while heap:
            ticket = heappop(heap)
            if (item := ticket[2]) is not None:
                ticket[2] = None
                self._live -= 1
                return item  # type: ignore[no-any-return] # pushed as one
        return None

    def cancel(self, ticket: Ticket) -> bool:
        """Cancel `ticket`; False if its item was taken already."""
        if ticket[2] is None:
            return False
        ticket[2] = None
        self._live -= 1
        if len(self._heap) > 2 * self._live + 16:
            self._keep(lambda other: other[2] is not None)
        return True

    def _keep(self, wanted: Any) -> None:
        self._heap = [ticket for ticket in self._heap if wanted(ticket)]
        heapify(self._heap)
