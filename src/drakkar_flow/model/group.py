"""MessageGroup: the tasks and results of one source record."""

from __future__ import annotations

import time

import msgspec

from drakkar_flow.model.base import Model
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask

__all__ = ["MessageGroup"]


class MessageGroup(Model, kw_only=True):
    """One source record with its tasks and their results.

    `tasks` holds every task ever attributed, replaced ones included; `results` the successes and
    `errors` the failures, both in the order they ended. `started_at` and `finished_at` are
    monotonic seconds.
    """

    source_message: Record
    tasks: list[ExecutorTask] = []
    results: list[ExecutorResult] = []
    errors: list[ExecutorError] = []
    started_at: float = msgspec.field(default_factory=time.monotonic)
    finished_at: float = 0.0

    @property
    def succeeded(self) -> int:
        """Number of successful tasks."""
        return len(self.results)

    @property
    def failed(self) -> int:
        """Number of tasks that failed permanently."""
        return len(self.errors)

    @property
    def total(self) -> int:
        """Number of tasks, replaced ones included."""
        return len(self.tasks)

    @property
    def replaced(self) -> int:
        """Number of replaced tasks."""
        return max(0, self.total - self.succeeded - self.failed)

    @property
    def all_succeeded(self) -> bool:
        """True if there was a success and no failure."""
        return bool(self.results) and not self.errors

    @property
    def any_failed(self) -> bool:
        """True if a task failed permanently."""
        return bool(self.errors)

    @property
    def is_empty(self) -> bool:
        """True if `arrange` made no task for the record."""
        return not self.tasks

    @property
    def duration_seconds(self) -> float:
        """Seconds from the record's window to its last task, never negative."""
        return max(0.0, self.finished_at - self.started_at)
