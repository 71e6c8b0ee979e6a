"""Offload pool: bounded threads for Python functions that compute, in arrival order; they never delay the exit."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from math import ceil
from queue import SimpleQueue
from typing import Any

from drakkar_flow.engine.forks import end_child
from drakkar_flow.executor.host_watch import HostWatch
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.hooks import Offloaded

__all__ = ["OffloadPool", "threads_for"]

_MOST_THREADS = 32
_GROW_S = 1.0  # between two attempts to start a thread while the host has none left

Job = Callable[[], None]


def threads_for(max_threads: int, max_executors: int) -> int:
    """Return the size of a pool: `max_threads`, or if that is 0 a quarter of the executor's slots, 2 to 32.

    >>> threads_for(0, 4), threads_for(0, 100), threads_for(5, 100)
    (2, 25, 5)
    """
    return min(_MOST_THREADS, max_threads or max(2, ceil(max_executors / 4)))


class OffloadPool:
    """Runs functions on at most `size` threads; call all methods on the event loop.

    Threads are daemons, started on demand: a function that never ends does not keep the process alive. Calls without
    a thread wait on the event loop, so a call that is cancelled while it waits never runs.
    """

    def __init__(self, size: int, bus: Bus) -> None:
        self._size = size
        self._process = os.getpid()
        self._bus = bus
        self._free = asyncio.Semaphore(size)
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads = 0
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._growing: asyncio.TimerHandle | None = None
        self._watch: HostWatch | None = None
        self.running = 0
        self.queued = 0

    async def run(self, hook: str, function: Callable[[], Any]) -> Any:
        """Call `function` on a thread, in the caller's context, and return its result.

        Raises:
            RuntimeError: the pool is closed.
        """
        self.queued += 1
        try:
            await self._free.acquire()
        finally:
            self.queued -= 1
        if self._closed:
            self._free.release()
            raise RuntimeError("offload is closed: the flow has ended")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def job() -> None:
            started = time.monotonic()
            value, error = None, None
            try:
                value = context.run(function)
            except BaseException as exc:  # any error is passed to the caller
                error = RuntimeError(f"the function raised {exc!r}") if isinstance(exc, StopIteration) else exc
            if os.getpid() != self._process:
                end_child(error)  # the function forked
            took_s = time.monotonic() - started
            with suppress(RuntimeError):  # the loop was closed: no caller waits
                loop.call_soon_threadsafe(self._ended, hook, took_s, answer, value, error)

        self.running += 1
        self._idle.clear()
        self._jobs.put(job)
        self._grow()
        return await answer

    async def close(self, budget_s: float) -> int:
        """Refuse new calls, wait for running ones, and end the threads; returns the number of calls that still run."""
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(budget_s):
                await self._idle.wait()
        if self._growing is not None:
            self._growing.cancel()
        if self._watch is not None:
            self._watch.close()
        for _ in range(self._threads):
            self._jobs.put(None)
        self._threads = 0
        return self.running

    def _grow(self) -> None:
        """Start missing threads; while the host has none left, the existing ones do the work."""
        if self._growing is not None:
            return
        while self._threads < self.running:
            thread = threading.Thread(target=_work, args=(self._jobs,), name="drakkar-offload", daemon=True)
            try:
                thread.start()
            except RuntimeError as exc:
                loop = asyncio.get_running_loop()
                if self._watch is None:
                    self._watch = HostWatch(self._bus, "offload")
                self._watch.report("processes", f"a thread can't be started: {exc}")
                self._growing = loop.call_later(_GROW_S, self._grow_again)
                return
            self._threads += 1

    def _grow_again(self) -> None:
        self._growing = None
        self._grow()

    def _ended(
        self, hook: str, took_s: float, answer: asyncio.Future[Any], value: Any, error: BaseException | None
    ) -> None:
        self.running -= 1
        self._free.release()
        if self.running == 0:
            self._idle.set()
        self._bus.emit(Offloaded(hook, took_s))
        if answer.done():  # the caller was cancelled
            return
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)


def _work(jobs: SimpleQueue[Job | None]) -> None:
    while (job := jobs.get()) is not None:
        job()
