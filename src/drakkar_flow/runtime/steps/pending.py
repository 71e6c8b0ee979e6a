"""The tasks of each partition that have not ended, for `arrange` to look at."""

from __future__ import annotations

from collections.abc import Iterable

from drakkar_flow.model.record import TopicPartition
from drakkar_flow.model.task import ExecutorTask, PendingContext

__all__ = ["PendingTasks"]


class PendingTasks:
    """Kept on the loop's thread by the arrange and execute steps of one process.

    A precomputed task ends as soon as it is handed over, so it is never pending.
    """

    def __init__(self) -> None:
        self._tasks: dict[
            TopicPartition, dict[int, tuple[ExecutorTask, str]]
        ] = {}  # each with its id, which hooks may change
        self.ended: dict[TopicPartition, int] = {}
        """How many tasks have ended, by partition that has some pending."""
        self._ids: dict[TopicPartition, dict[str, int]] = {}

    def add(self, topic_partition: TopicPartition, tasks: Iterable[ExecutorTask]) -> list[str]:
        """Note tasks that are to run; returns the ids that were pending already."""
        started = {id(task): (task, task.task_id) for task in tasks if task.precomputed is None}
        if not started:
            return []
        self._tasks.setdefault(topic_partition, {}).update(started)
        ids = self._ids.setdefault(topic_partition, {})
        duplicates = []
        for _, task_id in started.values():
            times = ids.get(task_id, 0)
            if times:
                duplicates.append(task_id)
            ids[task_id] = times + 1
        return duplicates

    def discard(self, topic_partition: TopicPartition, task: ExecutorTask) -> None:
        """Forget a task that has ended."""
        known = self._tasks.get(topic_partition)
        if known is None or (found := known.pop(id(task), None)) is None:
            return
        if not known:
            del self._tasks[topic_partition], self._ids[topic_partition]
            self.ended.pop(topic_partition, None)
            return
        self.ended[topic_partition] = self.ended.get(topic_partition, 0) + 1
        ids = self._ids[topic_partition]
        ids[found[1]] -= 1
        if not ids[found[1]]:
            del ids[found[1]]

    def context(self, topic_partition: TopicPartition) -> PendingContext:
        """What is pending in a partition now."""
        known = self._tasks.get(topic_partition)
        return PendingContext.of_started(known.copy().values()) if known else PendingContext()
