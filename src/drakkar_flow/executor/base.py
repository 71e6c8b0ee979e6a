"""Helpers for users of executors, beside the protocol of `kinds/executor.py`."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio

from drakkar_flow.errors import ExecutorClosed
from drakkar_flow.kinds.executor import Done, Executor, ExecutorStatistics, Running, TaskOutcome
from drakkar_flow.model.task import ExecutorTask

__all__ = ["Done", "Executor", "ExecutorStatistics", "Running", "TaskOutcome", "run", "section_of", "wait_shielded"]


def section_of(task: ExecutorTask) -> str:
    """Return the configuration section of a task's executor.

    >>> section_of(ExecutorTask(task_id="t", source_offsets=[], executor="sha"))
    'executors.sha'
    """
    return "executor" if task.executor in ("", "default") else f"executors.{task.executor}"


async def run(executor: Executor, task: ExecutorTask, priority: object = 0) -> TaskOutcome:
    """Run one task to its end.

    Cancelling the call cancels the task; CancelledError leaves when its slot is free again.

    Raises:
        ExecutorClosed: if the executor abandoned the task, because it is closing or was never started.
    """
    ended: asyncio.Future[TaskOutcome | None] = asyncio.get_running_loop().create_future()
    running = executor.submit(task, priority, ended.set_result)
    try:
        await asyncio.wait([ended])
    except asyncio.CancelledError:
        running.cancel()
        await wait_shielded(ended)
        raise
    outcome = ended.result()
    if outcome is None:
        raise ExecutorClosed(f"task {task.task_id} was given up: the executor is closing, closed or was never started")
    return outcome


async def wait_shielded(ended: asyncio.Future[Any]) -> None:
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
