"""Event loop of the simulation: one callback at a time, on the simulated clock."""

from __future__ import annotations

import asyncio
import threading
from asyncio import Handle, events
from collections.abc import Callable, Coroutine
from contextlib import suppress
from heapq import heappop
from math import inf
from typing import Any, TypeVar

from drakkar_flow.runtime.event_loop import EventLoopThread
from simulation.scheduler import Scheduler

__all__ = ["SimulatedLoop", "SimulatedLoopThread"]

T = TypeVar("T")


class SimulatedLoop(asyncio.BaseEventLoop):
    """Calls back in the order of asyncio, which the library relies on; others may work between two callbacks."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler
        self._clock_resolution = 1e-9
        self.bugs: list[str] = []
        """Errors that nobody handles."""
        self.set_exception_handler(lambda _loop, context: self.bugs.append(str(context)))

    def time(self) -> float:
        """Return the simulated time."""
        return self._scheduler.now

    def next_due(self) -> float:
        """Return the time of the next timer."""
        scheduled = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0].cancelled():
            heappop(scheduled)
        return float(scheduled[0].when()) if scheduled else inf

    def is_ready(self) -> bool:
        """Return True if a callback is due."""
        if self._ready:  # type: ignore[attr-defined]
            return True
        return bool(self._scheduled) and self.next_due() <= self._scheduler.now  # type: ignore[attr-defined]

    def step(self) -> bool:
        """Run one callback; returns False if none is due."""
        ready = self._ready  # type: ignore[attr-defined]
        scheduled = self._scheduled  # type: ignore[attr-defined]
        while scheduled and self.next_due() <= self._scheduler.now:
            ready.append(heappop(scheduled))
        if not ready:
            return False
        handle = ready.popleft()
        if not handle.cancelled():
            before = events._get_running_loop()
            events._set_running_loop(self)
            self._thread_id = threading.get_ident()
            try:
                Handle._run(handle)
            finally:
                self._thread_id = None  # type: ignore[assignment]
                events._set_running_loop(before)
        return True

    def _write_to_self(self) -> None:
        """Do nothing: the loop does not sleep."""

    def forget(self) -> None:
        """Drop all work, as the end of a process does."""
        for task in sorted(asyncio.all_tasks(self), key=_number):
            with suppress(RuntimeError):  # it awaits something while it is closed
                task.get_coro().close()
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]
        self.close()


class SimulatedLoopThread(EventLoopThread):
    """The event loop thread without its thread: the scheduler calls `loop.step`."""

    def __init__(self, scheduler: Scheduler, on_bug: Callable[[BaseException], None]) -> None:
        super().__init__(on_bug)
        self.loop = SimulatedLoop(scheduler)
        self._scheduler = scheduler

    def open(self) -> None:
        """Begin to take work."""
        self._loop = self.loop

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine while the actors work."""
        future = self.start(coroutine)
        self._scheduler.wait(future.done, timeout_s)
        return future.result(0)

    def close(self, timeout_s: float | None = None) -> bool:
        """Cancel unfinished work and let it end."""
        if self._loop is not None:
            self._loop = None
            for task in sorted(asyncio.all_tasks(self.loop), key=_number):
                task.cancel()
            while self.loop.step():
                pass
            self.loop.forget()
        return True


def _number(task: asyncio.Task[Any]) -> int:
    """Return the number in the name that asyncio gave a task: they were made in this order."""
    return int(task.get_name().rpartition("-")[2])
