"""Memory gate: steps that produce bytes wait while the budget of bytes in flight is spent."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from drakkar_flow.kernel.sizes import SizeSampler
from drakkar_flow.model.record import Record
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.event_loop import EventLoopThread

__all__ = ["Charge", "MemoryGate"]

_CHECK_S = 0.02


class _Step(Protocol):
    @property
    def moving(self) -> bool: ...


class MemoryGate:
    """Delays calls while the budget is spent; used on the loop's thread.

    Bytes in flight are released when sinks take payloads; delayed calls then continue in their order. If no step makes
    progress any more (all results of a window wait for its last task, which is delayed), one call at a time continues
    and exceeds the budget: otherwise the flow would stall.

    Args:
        loop_thread: the event loop thread.
        in_flight: the records in flight, with the budget.
        steps: returns all steps of the flow; `moving` is True for a step whose work goes on by itself.
    """

    def __init__(self, loop_thread: EventLoopThread, in_flight: InFlight, steps: Callable[[], Iterable[_Step]]) -> None:
        self._loop_thread = loop_thread
        self._in_flight = in_flight
        self._steps = steps
        self._delayed: deque[Callable[[], None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        in_flight.on_release = self._released

    @property
    def closed(self) -> bool:
        """True if a call must be delayed: the budget is spent, or other calls wait already."""
        return bool(self._delayed) or self._in_flight.is_full

    def delay(self, call: Callable[[], None]) -> None:
        """Make a call later, in a separate turn of the loop."""
        self._delayed.append(call)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_CHECK_S, self._loop_thread.guard, self._check_budget)

    def _released(self) -> None:
        if self._delayed:
            self._loop_thread.post(self._check_budget)

    def _check_budget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._loop_thread.closed:
            return
        delayed = self._delayed
        while delayed and (not self._in_flight.is_full or not any(step.moving for step in self._steps())):
            self._loop_thread.guard(delayed.popleft())
        if delayed:
            self._set_timer()


class Charge:
    """Counts the bytes that one step makes of records against the budget; a sample where the values are small."""

    __slots__ = ("_in_flight", "_sampler")

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._sampler = SizeSampler()

    def __call__(self, record: Record, value: Any) -> None:
        """Count `value`, which was made of an unfinished `record`."""
        sampler = self._sampler
        if sampler.skip:  # most values, and so cheaper
            sampler.skip -= 1
        elif size := sampler.measure(value):
            self._in_flight.charge(record, size)

    def payloads(self, records: Sequence[Record]) -> None:
        """Count the payloads of a chunk of unfinished records, at a price only for those that are measured."""
        sampler = self._sampler
        position = sampler.skip
        while position < len(records):
            sampler.skip = 0
            record = records[position]
            if size := sampler.measure(record.payload):
                self._in_flight.charge(record, size)
            position += 1 + sampler.skip
        sampler.skip = position - len(records)
