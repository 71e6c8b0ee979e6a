"""Executor protocol: takes tasks in, and reports how each ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import anyio

from drakkar_flow.errors import ExecutorClosed
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask

__all__ = ["Done", "Executor", "ExecutorStatistics", "Outcome", "Running", "outlast", "run", "section_of"]


class ExecutorStatistics(NamedTuple):
    """A snapshot of an executor."""

    running: int
    """Programs that run now; never more than `slots`."""
    waiting: int
    """Tasks that wait for a slot."""
    slots: int
    """How many programs may run at once."""
    ended: int = 0
    """Tasks that needed a program and are over, since the start."""


Outcome = ExecutorResult | ExecutorError

Done = Callable[[Outcome | None], None]
"""Hears how a task ended; None when it was given up. Must not raise."""


class Running(Protocol):
    """A task that an executor has taken in."""

    def cancel(self) -> None:
        """Give the task up: its program is killed and reaped, its slot freed, and then comes `done(None)`.

        May be called more than once; once `done` was called it does nothing.
        """
        ...

    def state(self) -> str:
        """Where the task is now, for people: what it waits for, or the process that has it, and for how long."""
        ...


class Executor(Protocol):
    """Runs tasks that need a program; every method is called on the event loop's thread.

    Callbacks rather than a coroutine per task: at 20,000 tasks/s a coroutine and a future each cost
    more than the task.
    """

    async def start(self) -> None:
        """Get ready to run tasks; raises StartupError with what is missing."""
        ...

    def submit(self, task: ExecutorTask, priority: object, done: Done) -> Running:
        """Take `task` in and call `done` exactly once, on the loop's thread, with how it ended.

        Waiting tasks start by ascending `priority`, then in the order they came. A failed task is a
        value, never an exception. None stands for a task that was given up: it was cancelled, or
        the executor closed. `done` is called before `submit` returns only where the outcome is
        known at once.
        """
        ...

    async def close(self) -> None:
        """Give up what still runs, reap it and end every thread; safe to call twice."""
        ...

    def statistics(self) -> ExecutorStatistics:
        """How much runs and waits now; callable from any thread."""
        ...


def section_of(task: ExecutorTask) -> str:
    """The section of the configuration that a task's executor has.

    >>> section_of(ExecutorTask(task_id="t", source_offsets=[], executor="sha"))
    'executors.sha'
    """
    return "executor" if task.executor in ("", "default") else f"executors.{task.executor}"


async def run(executor: Executor, task: ExecutorTask, priority: object = 0) -> Outcome:
    """Run one task to its end.

    Cancelling the call cancels the task; CancelledError leaves when its slot is free again.

    Raises:
        ExecutorClosed: when the executor gave the task up, for it is closing or was never started.
    """
    ended: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
    running = executor.submit(task, priority, ended.set_result)
    try:
        await asyncio.wait([ended])
    except asyncio.CancelledError:
        running.cancel()
        await outlast(ended)
        raise
    outcome = ended.result()
    if outcome is None:
        raise ExecutorClosed(f"task {task.task_id} was given up: the executor is closing, closed or was never started")
    return outcome


async def outlast(ended: asyncio.Future[Any]) -> None:
    """Wait for `ended`; only then is a cancellation let through, for programs are being killed."""
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not ended.done():
            try:
                await asyncio.wait([ended])
            except asyncio.CancelledError as exc:
                cancelled = exc
    if cancelled is not None:
        raise cancelled
