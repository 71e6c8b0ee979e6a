"""The tasks of each partition that have not ended, for `arrange` to look at."""

from __future__ import annotations

from collections.abc import Iterable

from drakkar_flow.model.record import Lane
from drakkar_flow.model.task import ExecutorTask, PendingContext

__all__ = ["PendingTasks"]


class PendingTasks:
    """Kept on the loop's thread by the arrange and execute steps of one process.

    A precomputed task ends as soon as it is handed over, so it is never pending.
    """

    def __init__(self) -> None:
        self._tasks: dict[Lane, dict[int, ExecutorTask]] = {}
        self.ended: dict[Lane, int] = {}
        """How many tasks have ended, by partition that has some pending."""

    def add(self, lane: Lane, tasks: Iterable[ExecutorTask]) -> None:
        """Note tasks that were arranged."""
        started = {id(task): task for task in tasks if task.precomputed is None}
        if started:
            self._tasks.setdefault(lane, {}).update(started)

    def discard(self, lane: Lane, task: ExecutorTask) -> None:
        """Forget a task that has ended."""
        known = self._tasks.get(lane)
        if known is not None:
            known.pop(id(task), None)
            if known:
                self.ended[lane] = self.ended.get(lane, 0) + 1
            else:
                del self._tasks[lane]
                self.ended.pop(lane, None)

    def context(self, lane: Lane) -> PendingContext:
        """What is pending in a partition now."""
        known = self._tasks.get(lane)
        return PendingContext(list(known.values()) if known else None)
