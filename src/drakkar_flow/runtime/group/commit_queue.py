"""Positions: what may be committed and what has not been yet."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from drakkar_flow.model.record import TopicPartition, Watermark

__all__ = ["CommitQueue"]


class CommitQueue:
    """Gathers watermarks and says which are due. Thread-safe.

    Whoever commits passes the present assignments, and only positions of these are given: a
    watermark of an assignment that has ended is never committed.
    """

    def __init__(self, interval_s: float, max_offsets: int, now: float) -> None:
        self._interval_s = interval_s
        self._max_offsets = max_offsets
        self._lock = threading.Lock()
        self._positions: dict[TopicPartition, tuple[int, int]] = {}
        self._accepted: dict[TopicPartition, int] = {}
        self._dirty: set[TopicPartition] = set()
        self._scattered: dict[
            TopicPartition, int
        ] = {}  # the epoch of partitions with finished records beyond their watermark
        self._finished = 0
        self._waits_since: float | None = None  # for the brokers' word on the oldest commit
        self.uncommitted = 0
        """Finished offsets that no broker has accepted yet: what a crash now would repeat."""
        self._taken_at = now

    def note(self, watermarks: Iterable[Watermark]) -> None:
        """Take watermarks in."""
        with self._lock:
            for topic_partition, epoch, offset in watermarks:
                before = self._positions.get(topic_partition)
                if before is not None and epoch < before[0]:
                    continue  # it comes late: the log was rewound meanwhile
                if before is None or before[0] != epoch:
                    self._drop(topic_partition)
                    before = (epoch, offset - 1)
                    self._accepted[topic_partition] = offset - 1
                self._finished += offset - before[1]
                self.uncommitted += offset - before[1]
                self._positions[topic_partition] = (epoch, offset)
                self._dirty.add(topic_partition)

    def out_of_order_ranges(self, ranges: Mapping[tuple[TopicPartition, int], int]) -> None:
        """Take in that what is finished beyond the watermark of partitions has changed: it is committed along."""
        with self._lock:
            for (topic_partition, epoch), count in ranges.items():
                if self._positions.get(topic_partition, (epoch, 0))[0] != epoch:
                    self._drop(topic_partition)
                self._dirty.add(topic_partition)
                if count:
                    self._scattered[topic_partition] = epoch
                else:
                    self._scattered.pop(topic_partition, None)

    def due(self, now: float) -> bool:
        """Whether it is time to commit: enough offsets, or long enough since the last time."""
        if not self._dirty:
            return False
        return now - self._taken_at >= self._interval_s or self._finished >= self._max_offsets

    def take(self, assignments: Mapping[TopicPartition, int], now: float) -> dict[TopicPartition, int]:
        """The offsets to commit, which count as committed unless `put_back` says otherwise.

        0 stands for where the assignment started: nothing is finished there, but something beyond.
        """
        with self._lock:
            offsets = self._of(self._dirty, assignments)
            self._dirty.clear()
            self._finished = 0
            self._taken_at = now
            if offsets and self._waits_since is None:
                self._waits_since = now
        return offsets

    def overdue(self, now: float, limit_s: float) -> bool:
        """Whether the brokers have accepted nothing for `limit_s` seconds though they were asked."""
        since = self._waits_since
        return since is not None and now - since > limit_s

    def accepted(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The brokers have taken offsets."""
        with self._lock:
            self._waits_since = None
            for topic_partition, offset in offsets.items():
                before = self._accepted.get(topic_partition)
                if before is not None and before < offset <= self._positions[topic_partition][1]:
                    self._accepted[topic_partition] = offset
                    self.uncommitted -= offset - before

    def put_back(self, topic_partitions: Iterable[TopicPartition]) -> None:
        """A commit was refused: it is due again, with what is known by then."""
        with self._lock:
            self._dirty.update(
                topic_partition
                for topic_partition in topic_partitions
                if topic_partition in self._positions or topic_partition in self._scattered
            )

    def of(self, assignments: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The offsets of assignments, committed or not; 0 as in `take`."""
        with self._lock:
            return self._of(assignments, assignments)

    def forget(self, topic_partitions: Iterable[TopicPartition]) -> None:
        """The partitions are no longer ours."""
        with self._lock:
            for topic_partition in topic_partitions:
                self._drop(topic_partition)
            if not self._positions:
                self._waits_since = None

    def _drop(self, topic_partition: TopicPartition) -> None:
        position = self._positions.pop(topic_partition, None)
        if position is not None:
            self.uncommitted -= position[1] - self._accepted.pop(topic_partition)
        self._dirty.discard(topic_partition)
        self._scattered.pop(topic_partition, None)

    def _of(
        self, topic_partitions: Iterable[TopicPartition], assignments: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        found = {}
        for topic_partition in topic_partitions:
            epoch, offset = self._positions.get(topic_partition, (self._scattered.get(topic_partition, -1), 0))
            if epoch == assignments.get(topic_partition):
                found[topic_partition] = offset
        return found
