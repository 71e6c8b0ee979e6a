"""Timers of one partition: at most one per key, by wall-clock time. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush

__all__ = ["Timers"]


class Timers:
    """Times in ms at which the timers of keys are due.

    >>> timers = Timers({"anna": 60})
    >>> timers.set("otto", 50)
    >>> timers.due(49), timers.due(60), timers.due(60)
    ([], ['otto', 'anna'], [])
    """

    def __init__(self, at_ms: Mapping[str, int]) -> None:
        self._at_ms = dict(at_ms)
        self._queue = [(at, key) for key, at in self._at_ms.items()]
        heapify(self._queue)

    def set(self, key: str, at_ms: int | None) -> None:
        """Set the timer of a key in place of an earlier one; None cancels it."""
        if at_ms is None:
            self._at_ms.pop(key, None)
        elif self._at_ms.get(key) != at_ms:
            self._at_ms[key] = at_ms
            heappush(self._queue, (at_ms, key))

    def due(self, now_ms: int) -> list[str]:
        """Remove the timers that are due and return their keys, earliest first."""
        queue, due = self._queue, []
        while queue and queue[0][0] <= now_ms:
            at_ms, key = heappop(queue)
            if self._at_ms.get(key) == at_ms:
                del self._at_ms[key]
                due.append(key)
        if len(queue) > 2 * len(self._at_ms) + 100:  # timers that are set again and again leave entries behind
            self._queue = [(at, key) for key, at in self._at_ms.items()]
            heapify(self._queue)
        return due
