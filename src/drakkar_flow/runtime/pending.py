"""The tasks of each partition that have not ended, for `arrange` to look at."""

from __future__ import annotations

from collections.abc import Iterable

from drakkar_flow.model.record import Lane
from drakkar_flow.model.task import ExecutorTask, PendingContext

__all__ = ["PendingTasks"]


class PendingTasks:
    """Kept on the loop's thread by the arrange, execute and collect steps of one process."""

    def __init__(self) -> None:
        self._tasks: dict[Lane, dict[int, ExecutorTask]] = {}

    def add(self, lane: Lane, tasks: Iterable[ExecutorTask]) -> None:
        """Note tasks that were arranged."""
        known = self._tasks.setdefault(lane, {})
        for task in tasks:
            known[id(task)] = task

    def discard(self, lane: Lane, task: ExecutorTask) -> None:
        """Forget a task that has ended."""
        known = self._tasks.get(lane)
        if known is not None:
            known.pop(id(task), None)
            if not known:
                del self._tasks[lane]

    def context(self, lane: Lane) -> PendingContext:
        """What is pending in a partition now."""
        known = self._tasks.get(lane)
        return PendingContext(list(known.values()) if known else None)
