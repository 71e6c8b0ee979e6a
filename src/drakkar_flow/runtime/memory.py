"""Memory gate: work that makes more bytes waits while the budget of bytes in flight is spent."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from drakkar_flow.kernel.sizes import SizeSampler
from drakkar_flow.model.record import Record
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.event_loop import EventLoopThread

__all__ = ["Charge", "MemoryGate"]

_LOOK_S = 0.02


class _Step(Protocol):
    @property
    def moving(self) -> bool: ...


class MemoryGate:
    """Delays calls while the flight is full; used on the loop's thread.

    What is in flight leaves as sinks take it, and the delayed calls go on in their order. Where nothing moves any more
    (all results of a window wait for its last task, which is delayed) one call goes on at a time: the budget then gives
    way rather than the flow.

    Args:
        bridge: owns the loop.
        flight: has the budget.
        steps: gives all steps of the flow; `moving` says whether one has work that goes on by itself.
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
        """Whether a call is to be delayed, for the budget is spent or others wait already."""
        return self._in_flight.is_full or bool(self._delayed)

    def delay(self, call: Callable[[], None]) -> None:
        """Make a call later, in a separate turn of the loop."""
        self._delayed.append(call)
        self._wind()

    def _wind(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_LOOK_S, self._loop_thread.guard, self._look)

    def _released(self) -> None:
        if self._delayed:
            self._loop_thread.post(self._look)

    def _look(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._loop_thread.closed:
            return
        delayed = self._delayed
        while delayed and (not self._in_flight.is_full or not any(step.moving for step in self._steps())):
            self._loop_thread.guard(delayed.popleft())
        if delayed:
            self._wind()


class Charge:
    """Counts what one step makes of records against the budget; a sample where the values are small."""

    __slots__ = ("_in_flight", "_sampler")

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._sampler = SizeSampler()

    def __call__(self, record: Record, value: Any) -> None:
        """Count `value`, which was made of an unfinished `record`."""
        sampler = self._sampler
        if sampler.skip:  # most, and so cheaper
            sampler.skip -= 1
        elif size := sampler.measure(value):
            self._in_flight.charge(record, size)
