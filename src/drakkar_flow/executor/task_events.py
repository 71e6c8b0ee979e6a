"""Event of a task's end, the same for every executor."""

from __future__ import annotations

from drakkar_flow.executor.base import TaskOutcome
from drakkar_flow.model.task import ExecutorError
from drakkar_flow.observe.events.tasks import TaskFinished

__all__ = ["task_finished"]


def task_finished(outcome: TaskOutcome | None, waited_s: float, spawn_s: float = 0.0) -> TaskFinished:
    """Emit the event of an ended task; None means abandoned."""
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
