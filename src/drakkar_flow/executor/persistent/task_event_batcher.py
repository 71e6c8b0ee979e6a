"""Task event batcher: counts ended tasks per loop iteration, so that thousands of tasks a second cost one event."""

from __future__ import annotations

import asyncio
import time

from drakkar_flow.executor.base import TaskOutcome
from drakkar_flow.executor.persistent.request import Request
from drakkar_flow.executor.task_events import task_finished
from drakkar_flow.model.task import ExecutorResult
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.tasks import TasksCompleted, TasksStarted

__all__ = ["TaskEventBatcher"]


class TaskEventBatcher:
    """Emits TasksStarted and TasksCompleted once per loop iteration, and TaskFinished for each task without success."""

    def __init__(self, bus: Bus, loop: asyncio.AbstractEventLoop) -> None:
        self.started = 0
        self._bus = bus
        self._loop = loop
        self._durations: list[float] = []
        self._waits: list[float] = []
        self._pending = False

    def note(self, request: Request, outcome: TaskOutcome | None) -> None:
        """Record the end of a task."""
        waited_s = request.sent_at - request.submitted_at
        if not self._pending:
            self._pending = True
            self._loop.call_soon(self.report)
        if type(outcome) is ExecutorResult and not (outcome.stdout_truncated or outcome.stderr_truncated):
            self._durations.append(outcome.duration_seconds)
            self._waits.append(waited_s)
            return
        if not request.sent_at:  # it never ran, but every end needs a start
            self.started += 1
            waited_s = time.monotonic() - request.submitted_at
        self.report()
        self._bus.emit(task_finished(outcome, waited_s))

    def report(self) -> None:
        """Emit the counts since the last call."""
        self._pending = False
        if self.started:
            self._bus.emit(TasksStarted(self.started))
            self.started = 0
        if self._durations:
            self._bus.emit(TasksCompleted(tuple(self._durations), tuple(self._waits)))
            self._durations.clear()
            self._waits.clear()
