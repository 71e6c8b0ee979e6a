"""Retry queue: failed tasks that wait for their next attempt, without an executor slot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush

from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.event_loop import EventLoopThread

__all__ = ["RetryQueue"]

_CHECK_S = 0.1  # the longest time until a drain is noticed

Resume = Callable[[], None]


class RetryQueue:
    """Holds tasks until their next attempt; used on the loop's thread.

    - A waiting task has no executor slot and is no load that would hold back the intake; its records are still in
      flight.
    - At most `limit` records wait, so that records which fail again and again leave room for others. With one more, the
      task that is due first starts at once.
    - A drain waits for records in flight, so all tasks that wait when it begins start then.
    - A task that fails once more during a drain still waits out its pause: a drain in the middle of an outage must not
      use up the retries, because records that it leaves are processed again by the next owner.

    One timer serves all tasks; it ends with the loop.
    """

    def __init__(self, loop_thread: EventLoopThread, in_flight: InFlight, limit: int) -> None:
        self._loop_thread = loop_thread
        self._in_flight = in_flight
        self._limit = limit
        self._heap: list[tuple[float, int, int, Resume]] = []
        self._delayed = 0
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at = 0.0
        self._hurried = False  # True once the tasks that waited when this drain began have started
        self.records = 0
        """Number of records of the waiting tasks."""

    def delay(self, delay_s: float, records: int, resume: Resume) -> None:
        """Call `resume` after `delay_s` seconds, or earlier, in a later turn of the loop."""
        loop = asyncio.get_running_loop()
        self._delayed += 1
        if not self._heap:  # no task waited when a drain began
            self._hurried = self._in_flight.draining
        heappush(self._heap, (loop.time() + delay_s, self._delayed, records, resume))
        self.records += records
        self._set_timer(loop)

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the timer to the next moment at which a task may be due."""
        wake_at = loop.time()
        if self.records <= self._limit:
            wake_at = min(self._heap[0][0], wake_at + _CHECK_S)
        if self._timer is not None:
            if self._wake_at <= wake_at:
                return
            self._timer.cancel()
        self._wake_at = wake_at
        self._timer = loop.call_at(wake_at, self._loop_thread.guard, self._start_due)

    def _start_due(self) -> None:
        self._timer = None
        if self._loop_thread.closed:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        draining = self._in_flight.draining
        first = len(self._heap) if draining and not self._hurried else 0  # so many start, due or not
        self._hurried = draining
        due: list[Resume] = []  # separate, so that a task which is delayed again meanwhile is not one of them
        while self._heap and (len(due) < first or self.records > self._limit or self._heap[0][0] <= now):
            _, _, records, resume = heappop(self._heap)
            self.records -= records
            due.append(resume)
        for resume in due:
            self._loop_thread.guard(resume)
        if self._heap:
            self._set_timer(loop)
