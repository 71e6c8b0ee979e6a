"""Adapter for the executor of a plug-in: emits its events and enforces the protocol."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress

from drakkar_flow.executor.task_events import task_finished
from drakkar_flow.kinds.executor import Done, Executor, ExecutorStatistics, Running, TaskOutcome
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.tasks import TasksStarted

__all__ = ["PluggedExecutor"]


class PluggedExecutor:
    """Runs tasks with a plug-in's executor of the kind `kind`.

    `done` is called at most once per task, on the loop's thread, with a valid outcome, even if the executor misbehaves.
    """

    def __init__(self, kind: str, executor: Executor, bus: Bus) -> None:
        self._kind = kind
        self._executor = executor
        self._bus = bus

    async def start(self) -> None:
        """Start the executor.

        Raises:
            StartupError: a dependency is missing; the problems name it.
        """
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        await self._executor.start()

    def submit(self, task: ExecutorTask, priority: object, done: Done) -> Running:
        """Submit the task; its outcome is accepted once, from any thread."""
        since, is_over = time.monotonic(), False

        def end(outcome: TaskOutcome | None) -> None:
            nonlocal is_over
            if is_over:
                return
            is_over = True
            checked = self._checked(task, outcome)
            took_s = 0.0 if checked is None else checked.duration_seconds
            self._bus.emit(task_finished(checked, max(0.0, time.monotonic() - since - took_s)))
            done(checked)

        def ended(outcome: TaskOutcome | None) -> None:
            if threading.get_ident() == self._thread:
                end(outcome)
            else:
                with suppress(RuntimeError):  # the loop is closed: the flow has ended
                    self._loop.call_soon_threadsafe(end, outcome)

        running = self._executor.submit(task, priority, ended)
        self._bus.emit(TasksStarted(count=1))
        return running

    async def close(self) -> None:
        """Close the executor."""
        await self._executor.close()

    def statistics(self) -> ExecutorStatistics:
        """Return the numbers of running and waiting tasks; callable from any thread."""
        return self._executor.statistics()

    def _checked(self, task: ExecutorTask, outcome: object) -> TaskOutcome | None:
        if outcome is None or isinstance(outcome, ExecutorResult):
            return outcome
        if not isinstance(outcome, ExecutorError):
            exception = f"the executor reported {type(outcome).__name__}: expected ExecutorResult or ExecutorError"
            outcome = ExecutorError(task=task, kind="internal", exception=exception)
        outcome.executor = outcome.executor or self._kind
        return outcome
