"""Executor protocol: accepts tasks and reports the result of each."""

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
    """Running programs; never more than `slots`."""
    waiting: int
    """Tasks waiting for a slot."""
    slots: int
    """Maximum of running programs."""
    ended: int = 0
    """Tasks with a program that have ended since the start."""


Outcome = ExecutorResult | ExecutorError

Done = Callable[[Outcome | None], None]
"""Callback with a task's result; None if it was abandoned. Must not raise."""


class Running(Protocol):
    """A task that an executor has accepted."""

    def cancel(self) -> None:
        """Abandon the task: its program is killed and reaped, its slot freed, then `done(None)` is called.

        May be called more than once; after `done` it does nothing.
        """
        ...

    def state(self) -> str:
        """Position of the task, for people: its wait or its process, with the duration."""
        ...


class Executor(Protocol):
    """Runs tasks that need a program; every method is called on the event loop thread.

    Callbacks instead of a coroutine per task: at 20,000 tasks/s a coroutine and a future each cost
    more than the task.
    """

    async def start(self) -> None:
        """Prepare to run tasks; raises StartupError with all problems."""
        ...

    def submit(self, task: ExecutorTask, priority: object, done: Done) -> Running:
        """Accept `task` and call `done` exactly once, on the loop thread, with its result.

        Waiting tasks start by ascending `priority`, then in arrival order. A failed task is a value,
        never an exception. None stands for an abandoned task: it was cancelled, or the executor
        closed. `done` is called before `submit` returns only if the result is known immediately.
        """
        ...

    async def close(self) -> None:
        """Abandon running tasks, reap their programs and end every thread; safe to call twice."""
        ...

    def statistics(self) -> ExecutorStatistics:
        """Return the numbers of running and waiting tasks; callable from any thread."""
        ...


def section_of(task: ExecutorTask) -> str:
    """Return the configuration section of a task's executor.

    >>> section_of(ExecutorTask(task_id="t", source_offsets=[], executor="sha"))
    'executors.sha'
    """
    return "executor" if task.executor in ("", "default") else f"executors.{task.executor}"


async def run(executor: Executor, task: ExecutorTask, priority: object = 0) -> Outcome:
    """Run one task to its end.

    Cancelling the call cancels the task; CancelledError leaves when its slot is free again.

    Raises:
        ExecutorClosed: if the executor abandoned the task, because it is closing or was never started.
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
    """Wait for `ended`, and raise a cancellation only then, because programs are being killed."""
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not ended.done():
            try:
                await asyncio.wait([ended])
            except asyncio.CancelledError as exc:
                cancelled = exc
    if cancelled is not None:
        raise cancelled
