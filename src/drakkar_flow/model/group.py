"""MessageGroup: everything that came of one source record."""

from __future__ import annotations

import time

import msgspec

from drakkar_flow.model.base import Model
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask

__all__ = ["MessageGroup"]


class MessageGroup(Model, kw_only=True):
    """One source record with the tasks attributed to it and how they ended.

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
        """How many tasks succeeded."""
        return len(self.results)

    @property
    def failed(self) -> int:
        """How many tasks failed for good."""
        return len(self.errors)

    @property
    def total(self) -> int:
        """How many tasks there were, replaced ones included."""
        return len(self.tasks)

    @property
    def replaced(self) -> int:
        """How many tasks gave way to replacements."""
        return max(0, self.total - self.succeeded - self.failed)

    @property
    def all_succeeded(self) -> bool:
        """Whether there was a success and no failure."""
        return bool(self.results) and not self.errors

    @property
    def any_failed(self) -> bool:
        """Whether a task failed for good."""
        return bool(self.errors)

    @property
    def is_empty(self) -> bool:
        """Whether `arrange` made no task for the record."""
        return not self.tasks

    @property
    def duration_seconds(self) -> float:
        """How long the record took from its window to its last task, never negative."""
        return max(0.0, self.finished_at - self.started_at)
