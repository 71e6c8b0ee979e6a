"""Records in flight of each assignment, between the source and their acknowledgement."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from drakkar_flow.kernel.pace import Pace
from drakkar_flow.model.record import Record, TopicPartition, size_of
from drakkar_flow.runtime.wakeup import EngineWakeup

__all__ = ["InFlight", "InFlightStatistics"]

Assignment = tuple[TopicPartition, int]
"""Topic partition and epoch of an assignment."""


class InFlightStatistics(NamedTuple):
    """Records and bytes in flight now, records by partition, and the age of the oldest in seconds.

    `oldest` has, by partition, the first offset that is not finished and the time its batch was read. `finished_at` has
    the time a record last finished, also for assigned partitions without records in flight.
    """

    records: int
    size: int
    by_partition: dict[TopicPartition, int]
    oldest_s: float
    oldest: dict[TopicPartition, tuple[int, float]]
    finished_at: dict[TopicPartition, float]


class InFlight:
    """Counts records and bytes in flight, and fences revoked assignments. Thread-safe.

    Bytes are those of the records and of the values made of them (`charge`), until the record is finished. `pace`
    limits the records to the number that a drain can finish; None sets no such limit.

    The source returns no records while there is no `room`. A revoke waits for `wait_idle`, then fences unfinished
    records: they return their credit without being delivered or committed.
    """

    def __init__(self, max_records: int, max_size: int, pace: Pace | None = None) -> None:
        self._max_records = max_records
        self._max_size = max_size
        self._pace = pace
        self.on_release: Callable[[], None] | None = None
        """Called after records were released, by the thread that released them."""
        self._mean = 1.0  # bytes of a record when it is finished, with the values made of it
        self._changed = threading.Condition()
        self.engine = EngineWakeup()
        """Wakes the engine's threads when records were read or work is finished."""
        self._waiting = 0
        self._ending = False
        self._open: dict[Assignment, int] = {}
        self._fenced: set[Assignment] = set()
        self._batches: dict[Assignment, deque[tuple[int, int, float]]] = {}  # (first, last, when read), until finished
        self._finished_at: dict[Assignment, float] = {}  # until the assignment is fenced
        self._aside: Counter[tuple[Assignment, int]] = Counter()
        self.records = 0
        self.guests = 0
        """Records that other processes have read and this one works on; they are in flight there."""
        self.source_ended = False
        """True if the engine's source has ended; records of other processes may still come."""
        self.size = 0
        self.finished = 0

    @property
    def room(self) -> int:
        """Return the number of records that may enter: as many as fit if they grow as large as those before them."""
        if self.is_full:
            return 0
        moving = self.records - len(self._aside)  # records set aside are bounded by bytes: no drain waits for them
        left = self._max_records - moving
        if self._pace is not None:
            left = min(left, self._pace.limit(now=time.monotonic(), in_flight=moving, finished=self.finished) - moving)
        mean = max(self._mean, self.size / self.records if self.records else 0.0)
        return max(0, min(left, 1 + int((self._max_size - self.size) / mean)))

    @property
    def working(self) -> int:
        """Number of unfinished records of this process and of others that are here."""
        return self.records + self.guests

    @property
    def is_full(self) -> bool:
        """True if the budget of bytes is spent."""
        return self.size >= self._max_size

    def charge(self, record: Record, size: int) -> None:
        """Count `size` bytes that were made of an unfinished record; they are released with the record.

        A negative `size` takes back counted bytes and is not kept.
        """
        if not size:
            return
        with self._changed:
            if record.held is None:
                record.held = [size]
            else:
                record.held[0] += size
            self.size += size

    def add(self, assignment: Assignment, records: Sequence[Record]) -> int:
        """Count `records` of one assignment as in flight; returns their bytes."""
        size = size_of(records)
        with self._changed:
            self._open[assignment] = self._open.get(assignment, 0) + len(records)
            batch = (records[0].offset, records[-1].offset, records[0].read_at)
            self._batches.setdefault(assignment, deque()).append(batch)
            self.records += len(records)
            self.size += size
        return size

    def receive(self, records: Sequence[Record]) -> None:
        """Count records of other processes that arrive; they take memory, but no room: they have entered there."""
        with self._changed:
            self.guests += len(records)
            self.size += size_of(records)

    def send_home(self, records: Sequence[Record]) -> None:
        """Release records of other processes, with the bytes that were made of them here."""
        size = size_of(records)
        with self._changed:
            for record in records:
                if record.held is not None:  # in common with other shares of the record: released once
                    size += record.held[0]
                    record.held[0] = 0
            self.guests -= len(records)
            self.size -= size
        if self.on_release is not None:
            self.on_release()

    def advance(self, assignment: Assignment, offset: int) -> None:
        """Note that all records of an assignment before `offset` are finished."""
        with self._changed:
            batches = self._batches.get(assignment)
            while batches and batches[0][1] < offset:
                batches.popleft()
            if batches and batches[0][0] < offset:
                batches[0] = (offset, *batches[0][1:])

    def release(self, assignment: Assignment, count: int, size: int) -> None:
        """Release records of one assignment."""
        with self._changed:
            if assignment not in self._fenced:
                self._finished_at[assignment] = time.monotonic()
            left = self._open.get(assignment, 0) - count
            if left > 0:
                self._open[assignment] = left
            else:
                self._open.pop(assignment, None)
                self._batches.pop(assignment, None)
                self._fenced.discard(assignment)
            self.records -= count
            self.finished += count
            self.size -= size
            if count:
                mean = size / count
                self._mean = max(1.0, mean, 0.9 * self._mean + 0.1 * mean)
            self._changed.notify_all()
        if self.on_release is not None:
            self.on_release()

    def wait_idle(self, assignments: Collection[Assignment], timeout_s: float) -> int:
        """Wait until no record of `assignments` is in flight, at most `timeout_s`; returns the number left."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._waiting += 1
            while self._left(assignments) - self._held_back(assignments) > 0:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    break
                self._changed.wait(remaining)
            self._waiting -= 1
            return self._left(assignments)

    def _left(self, assignments: Collection[Assignment]) -> int:
        return sum(self._open.get(assignment, 0) for assignment in assignments)

    def _held_back(self, assignments: Collection[Assignment]) -> int:
        return sum(assignment in assignments for assignment, _ in self._aside) if self._aside else 0

    def set_aside(self, records: Iterable[Record]) -> None:
        """Exclude records from `wait_idle`: they finish later, or not at all."""
        with self._changed:
            places = [((record.topic_partition, record.epoch), record.offset) for record in records]
            self._aside.update(place for place in places if place[0] in self._open)  # others are in flight elsewhere
            self._changed.notify_all()

    def take_back(self, records: Iterable[Record]) -> None:
        """Include records set aside in `wait_idle` again."""
        with self._changed:
            self._aside -= Counter(((record.topic_partition, record.epoch), record.offset) for record in records)

    def end(self) -> None:
        """Note that no more records will enter: the flow ends when the records in flight have finished."""
        self._ending = True

    @property
    def ending(self) -> bool:
        """True if no more records will enter."""
        return self._ending

    @property
    def draining(self) -> bool:
        """True if a drain waits for records in flight, so that no step should linger."""
        return self._ending or self._waiting > 0

    def fence(self, assignments: Iterable[Assignment]) -> None:
        """Stop unfinished records of `assignments` from being executed or delivered."""
        with self._changed:
            for item in assignments:
                self._finished_at.pop(item, None)
                if item in self._open:
                    self._fenced.add(item)

    @property
    def has_fences(self) -> bool:
        """True if any assignment is fenced: the cheap check before `is_fenced`."""
        return bool(self._fenced)

    def is_fenced(self, record: Record) -> bool:
        """True if the assignment of a record was taken away."""
        return (record.topic_partition, record.epoch) in self._fenced

    def oldest(self, topic_partitions: Iterable[TopicPartition]) -> tuple[tuple[TopicPartition, int], ...]:
        """Return the first unfinished offset of each of these partitions that has one."""
        oldest = self.statistics().oldest
        return tuple(
            (topic_partition, oldest[topic_partition][0])
            for topic_partition in topic_partitions
            if topic_partition in oldest
        )

    def statistics(self) -> InFlightStatistics:
        """Return the counts and ages of records in flight."""
        with self._changed:
            by_partition: dict[TopicPartition, int] = {}
            for (topic_partition, _), count in self._open.items():
                by_partition[topic_partition] = by_partition.get(topic_partition, 0) + count
            oldest = {
                topic_partition: (queue[0][0], queue[0][2])
                for (topic_partition, _), queue in self._batches.items()
                if queue
            }
            finished_at = {topic_partition: at for (topic_partition, _), at in self._finished_at.items()}
            age_s = max((time.monotonic() - read_at for _, read_at in oldest.values()), default=0.0)
            return InFlightStatistics(self.records, self.size, by_partition, max(0.0, age_s), oldest, finished_at)
