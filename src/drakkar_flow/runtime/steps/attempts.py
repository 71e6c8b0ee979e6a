"""Attempt log: emits the ended attempts of tasks once per turn of the loop, while they have a listener."""

from __future__ import annotations

import asyncio
import time
from math import inf

from drakkar_flow.executor.base import TaskOutcome
from drakkar_flow.model.task import ExecutorError, ExecutorResult
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.tasks import LongTaskRan, TaskAttempt, TaskAttempts
from drakkar_flow.runtime.steps.windows import TaskRun

__all__ = ["AttemptLog"]


class AttemptLog:
    """Collects attempts on the event loop; successes of `long_s` seconds or more are emitted with their output too."""

    def __init__(self, bus: Bus, long_s: float = inf) -> None:
        self._bus = bus
        self._long_s = long_s
        self._attempts: list[TaskAttempt] = []

    def note(self, run: TaskRun, outcome: TaskOutcome | None) -> None:
        """Note the end of an attempt; None means cancelled. Without a listener it costs a lookup."""
        if not self._bus.hears(TaskAttempts):
            return
        if not self._attempts:
            asyncio.get_running_loop().call_soon(self._emit)
        status, code, spawn_s, took_s, pid = "cancelled", None, 0.0, 0.0, None
        if type(outcome) is ExecutorResult:
            status, code, spawn_s = "completed", outcome.exit_code, outcome.spawn_seconds or 0.0
        elif type(outcome) is ExecutorError:
            status, code = "failed", outcome.exit_code
        if outcome is not None:
            took_s, pid = outcome.duration_seconds, outcome.pid
        record, running = run.first_record, run.running  # a plug-in's `Running` knows neither slot nor wait
        self._attempts.append(
            TaskAttempt(
                run.task.task_id,
                (record.topic, record.partition),
                record.offset,
                record.offset if len(run.in_progress) == 1 else run.in_progress[-1].record.offset,
                status,
                code,
                time.monotonic(),
                getattr(running, "queue_wait_s", 0.0),
                spawn_s,
                took_s,
                -1 if pid is None else pid,
                getattr(running, "slot", -1),
                run.retries + 1,
                run.program,
                run.task.parent_task_id,
            )
        )
        if status == "completed" and took_s >= self._long_s:
            assert type(outcome) is ExecutorResult
            self._bus.emit(LongTaskRan(outcome, run.about))

    def _emit(self) -> None:
        attempts, self._attempts = tuple(self._attempts), []
        self._bus.emit(TaskAttempts(attempts))
