"""The event that tells how a task ended, the same from every executor."""

from __future__ import annotations

from drakkar_flow.executor.base import Outcome
from drakkar_flow.model.task import ExecutorError
from drakkar_flow.observe.events.tasks import TaskFinished

__all__ = ["task_finished"]


def task_finished(outcome: Outcome | None, waited_s: float, spawn_s: float = 0.0) -> TaskFinished:
    """Tell of a task that is over; None was given up."""
    if outcome is None:
        return TaskFinished("cancelled", "", 0.0, waited_s, spawn_s)
    error = outcome if isinstance(outcome, ExecutorError) else None
    return TaskFinished(
        "failed" if error else "completed",
        error.kind if error else "",
        outcome.duration_seconds,
        waited_s,
        spawn_s,
        outcome.stdout_truncated,
        outcome.stderr_truncated,
    )
