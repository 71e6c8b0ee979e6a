"""Periodic functions: each runs in a separate asyncio task, one interval after the end of its last run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from drakkar_flow.graph.periodic import Periodic
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.hooks import PeriodicRan
from drakkar_flow.runtime.failures import describe, is_cancelled

__all__ = ["PERIODIC", "Periodics"]

PERIODIC = "periodic-"
"""Prefix of the names of asyncio tasks that run periodic functions."""

Sleep = Callable[[float], Awaitable[object]]


class Periodics:
    """Owns the loops of a flow's periodic functions; use it on the event loop.

    `sleep` waits for an interval; tests replace it.
    """

    def __init__(self, periodics: Iterable[Periodic], bus: Bus, sleep: Sleep = asyncio.sleep) -> None:
        self._periodics = tuple(periodics)
        self._bus = bus
        self._sleep = sleep
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start every loop; the first runs start one interval from now."""
        self._tasks = [
            asyncio.create_task(self._repeat(periodic), name=PERIODIC + periodic.name) for periodic in self._periodics
        ]

    def stop(self) -> None:
        """Cancel every loop and the current runs."""
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Cancel every loop and wait for its end; safe to call twice and before `start`."""
        self.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, periodic: Periodic) -> None:
        while True:
            await self._sleep(periodic.seconds)
            if not await self._run(periodic) and periodic.on_error == "stop":
                return

    async def _run(self, periodic: Periodic) -> bool:
        """Run the function once; return True on success."""
        started = time.monotonic()
        error: BaseException | None = None
        try:
            await periodic.fn()
        except BaseException as exc:
            if is_cancelled():
                raise
            error = exc
        text = describe(error) if error is not None else ""
        stopped = error is not None and periodic.on_error == "stop"
        self._bus.emit(PeriodicRan(periodic.name, time.monotonic() - started, text, error, stopped))
        return error is None
