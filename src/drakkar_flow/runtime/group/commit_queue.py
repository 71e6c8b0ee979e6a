"""Commit queue: watermarks to commit, and those that have not been committed yet."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from drakkar_flow.model.record import TopicPartition, Watermark

__all__ = ["CommitQueue"]


class CommitQueue:
    """Collects watermarks and returns the due ones. Thread-safe.

    The committer passes the present assignments and gets only their positions: a watermark of an assignment that has
    ended is never committed.
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
        self._waits_since: float | None = None  # for the brokers' answer to the oldest commit
        self.uncommitted = 0
        """Finished offsets that no broker has accepted yet: a crash now would repeat them."""
        self._taken_at = now

    def note(self, watermarks: Iterable[Watermark]) -> None:
        """Add watermarks."""
        with self._lock:
            for topic_partition, epoch, offset in watermarks:
                before = self._positions.get(topic_partition)
                if before is not None and (epoch, offset) < before:
                    continue  # it comes late: the log was rewound, or another thread has noted a later one meanwhile
                if before is None or before[0] != epoch:
                    self._drop(topic_partition)
                    before = (epoch, offset - 1)
                    self._accepted[topic_partition] = offset - 1
                self._finished += offset - before[1]
                self.uncommitted += offset - before[1]
                self._positions[topic_partition] = (epoch, offset)
                self._dirty.add(topic_partition)

    def out_of_order_ranges(self, ranges: Mapping[tuple[TopicPartition, int], int]) -> None:
        """Note that the offset ranges finished beyond watermarks have changed: they are committed too."""
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
        """True if it is time to commit: enough offsets, or enough time since the last commit."""
        if not self._dirty:
            return False
        return now - self._taken_at >= self._interval_s or self._finished >= self._max_offsets

    def take(self, assignments: Mapping[TopicPartition, int], now: float) -> dict[TopicPartition, int]:
        """Return the offsets to commit, which count as committed unless `put_back` is called.

        An offset of 0 stands for the start of the assignment: only records beyond it are finished.
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
        """True if the brokers were asked but have accepted no commit for `limit_s` seconds."""
        since = self._waits_since
        return since is not None and now - since > limit_s

    def accepted(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Note that the brokers have accepted offsets."""
        with self._lock:
            self._waits_since = None
            for topic_partition, offset in offsets.items():
                before = self._accepted.get(topic_partition)
                if before is not None and before < offset <= self._positions[topic_partition][1]:
                    self._accepted[topic_partition] = offset
                    self.uncommitted -= offset - before

    def put_back(self, topic_partitions: Iterable[TopicPartition]) -> None:
        """Note that a commit was refused: it is due again, with the watermarks known by then."""
        with self._lock:
            self._dirty.update(
                topic_partition
                for topic_partition in topic_partitions
                if topic_partition in self._positions or topic_partition in self._scattered
            )

    def of(self, assignments: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Return the offsets of assignments, committed or not; 0 as in `take`."""
        with self._lock:
            return self._of(assignments, assignments)

    def forget(self, topic_partitions: Iterable[TopicPartition]) -> None:
        """Forget partitions that left."""
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
