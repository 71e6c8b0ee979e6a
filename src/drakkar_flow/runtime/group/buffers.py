"""Buffers: records read ahead, by partition, between the reader's thread and the engine's."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.model.record import Record, TopicPartition, size_of
from drakkar_flow.runtime.acknowledgement.in_flight import Assignment, InFlight

__all__ = ["Buffers", "Partition"]

_MOST_SPANS = 550  # four bytes each, in base64, are the 3 KiB that a commit's metadata may have


class Partition:
    """One assignment of a partition: its buffer and its place in the log.

    `base` is the offset it starts at, as committed or as first read. `done` has the offset ranges that an earlier
    assignment finished beyond it; they end at `done_until`.
    """

    __slots__ = (
        "base",
        "buffer",
        "done",
        "done_until",
        "end",
        "epoch",
        "last_offset",
        "paused",
        "queued",
        "ranges",
        "read_offset",
        "revoked",
        "size",
        "topic_partition",
    )  # fmt: skip

    def __init__(self, topic_partition: TopicPartition, epoch: int, base: int, done: OffsetRanges) -> None:
        self.topic_partition = topic_partition
        self.epoch = epoch
        self.buffer: deque[Record] = deque()
        self.size = 0
        self.base = base
        self.done = done
        self.done_until = done.stop  # checked for every record read, and cheaper than `done`
        self.last_offset = -1  # of the last record that must be processed
        self.read_offset = base - 1  # of the last record read, finished ones included
        self.end = -1  # the offset after the last one read, markers and aborted records included
        self.ranges = 0  # of finished records beyond the watermark
        self.paused = False
        self.queued = False  # is in the queue of partitions that have records
        self.revoked = False

    @property
    def at_end(self) -> bool:
        """True if all readable records were read: the rest are records of open transactions."""
        return self.end > self.read_offset and self.end >= 0 and not self.paused

    def reached(self, position: int) -> int:
        """Return the first offset that may hold an unfinished record, given the position of the finished ones.

        It is beyond the position if only markers and aborted records follow, up to the end of the log.
        """
        is_finished = self.last_offset < 0 or position > self.last_offset
        at_end = self.read_offset + 1 == self.end
        return max(position, self.end) if is_finished and at_end else position

    def joined(self, offset: int, ranges: OffsetRanges) -> tuple[int, OffsetRanges]:
        """Return the first unfinished offset and the ranges beyond it, with those that an earlier assignment finished.

        `offset` and `ranges` are those of this assignment.
        """
        for span in self.done:
            ranges.add(*span)
        offset = ranges.end_of(max(offset, self.base))
        ranges.cut(offset)
        self.done.cut(min(offset, self.read_offset + 1))  # the reader skips the others when it gets there
        return offset, ranges

    @property
    def assignment(self) -> Assignment:
        """Topic partition and epoch of this assignment."""
        return (self.topic_partition, self.epoch)


class Buffers:
    """Buffered records, bounded per partition and by bytes altogether. Thread-safe.

    The bounds are marks that the reader checks (`over`), not walls: records read are always kept. Popped records are
    counted as in flight under the same lock that a revoke takes, so a revoke finds each record either still here or in
    flight. A partition with `max_ranges` finished beyond its watermark gets no more records.
    """

    def __init__(
        self, in_flight: InFlight, max_records_per_partition: int, max_size: int, max_ranges: float = _MOST_SPANS
    ) -> None:
        self._in_flight = in_flight
        self._max_records = max_records_per_partition
        self._max_size = max_size
        self._max_ranges = max_ranges
        self._lock = threading.Lock()
        self._partitions: dict[TopicPartition, Partition] = {}
        self._over: set[Partition] = set()
        self._ready: dict[int, deque[Partition]] = {}
        self._slots = 1
        self._size = 0
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._partitions)

    def get(self, topic_partition: TopicPartition) -> Partition | None:
        """Return the present assignment of a partition, None if it has none."""
        return self._partitions.get(topic_partition)

    def read_offset(self, topic_partition: TopicPartition) -> int:
        """Return the last offset that was read of a partition; -1 if none was."""
        partition = self._partitions.get(topic_partition)
        return -1 if partition is None else partition.read_offset

    def assignments(self) -> dict[TopicPartition, int]:
        """Return the epoch of every assigned partition."""
        with self._lock:
            return {topic_partition: partition.epoch for topic_partition, partition in self._partitions.items()}

    def assign(
        self,
        topic_partitions: Iterable[TopicPartition],
        known: Mapping[TopicPartition, tuple[int, OffsetRanges]] | None = None,
    ) -> None:
        """Begin new assignments, with the committed offset and the ranges finished beyond it where they are known."""
        known = known or {}
        with self._lock:
            for topic_partition in topic_partitions:
                self._epoch += 1
                base, done = known.get(topic_partition, (-1, OffsetRanges()))
                self._partitions[topic_partition] = Partition(topic_partition, self._epoch, base, done)

    def take_away(self, topic_partitions: Iterable[TopicPartition]) -> list[Partition]:
        """End assignments: their buffered records are dropped and no more are returned."""
        taken = []
        with self._lock:
            for topic_partition in topic_partitions:
                partition = self._partitions.pop(topic_partition, None)
                if partition is not None:
                    partition.revoked = True
                    self._over.discard(partition)
                    self._drop(partition)
                    taken.append(partition)
        return taken

    def rewind(self, partition: Partition) -> None:
        """Begin a new assignment after the log went back: it was truncated, or the offset was reset."""
        with self._lock:
            self._in_flight.fence([partition.assignment])
            self._drop(partition)
            self._epoch += 1
            partition.epoch = self._epoch
            partition.base = partition.last_offset = partition.read_offset = partition.end = -1
            partition.done = OffsetRanges()
            partition.done_until = 0
            partition.ranges = 0

    def append(self, partition: Partition, records: list[Record]) -> int:
        """Add records of one partition, in order; returns their bytes."""
        size = size_of(records)
        with self._lock:
            if partition.revoked:
                return 0
            partition.buffer.extend(records)
            partition.size += size
            self._size += size
            if len(partition.buffer) >= self._max_records:
                self._over.add(partition)
            if not partition.queued:
                partition.queued = True
                self._ready.setdefault(partition.topic_partition[1] % self._slots, deque()).append(partition)
        self._in_flight.engine.wake()
        return size

    def out_of_order_ranges(self, ranges: Mapping[Assignment, int]) -> None:
        """Note the number of offset ranges that assignments have finished beyond their watermark."""
        with self._lock:
            for (topic_partition, epoch), count in ranges.items():
                partition = self._partitions.get(topic_partition)
                if partition is not None and partition.epoch == epoch:
                    partition.ranges = count

    def pop(self, limit: int, slot: int, slots: int) -> list[list[Record]]:
        """Return at most `limit` records, one list per partition in turn, and count them as in flight.

        A partition with more finished ranges than the commit metadata can hold must wait until its earlier records have
        finished; not if the recovery store holds them all.
        """
        batches: list[list[Record]] = []
        held: list[Partition] = []
        with self._lock:
            if slots != self._slots:
                self._share_out(slots)
            ready = self._ready.setdefault(slot, deque())
            while limit > 0 and ready:
                partition = ready.popleft()
                partition.queued = False
                if partition.revoked or not partition.buffer:
                    continue
                if partition.ranges >= self._max_ranges:
                    partition.queued = True
                    held.append(partition)
                    continue
                records = self._pop_from(partition, limit)
                limit -= len(records)
                batches.append(records)
                if partition.buffer:
                    partition.queued = True
                    ready.append(partition)
            ready.extend(held)
        return batches

    def over(self) -> list[Partition]:
        """Return the partitions that have as many records as they may, all of them when the bytes are used up."""
        if not self._over and self._size < self._max_size:
            return []
        with self._lock:
            if self._size >= self._max_size:
                return list(self._partitions.values())
            self._over = {partition for partition in self._over if len(partition.buffer) >= self._max_records}
            return list(self._over)

    def has_room(self, partition: Partition) -> bool:
        """True if a paused partition has drained far enough to be read again: to half of the bounds."""
        return len(partition.buffer) * 2 <= self._max_records and self._size * 2 <= self._max_size

    def partitions(self) -> list[Partition]:
        """Return every assigned partition."""
        with self._lock:
            return list(self._partitions.values())

    def queued(self) -> dict[TopicPartition, int]:
        """Return the number of buffered records of each assigned partition."""
        return {partition.topic_partition: len(partition.buffer) for partition in self.partitions()}

    def oldest(self) -> dict[TopicPartition, float]:
        """Return the time at which the oldest buffered record of each partition was read."""
        with self._lock:
            return {
                topic_partition: item.buffer[0].read_at
                for topic_partition, item in self._partitions.items()
                if item.buffer
            }

    def _share_out(self, slots: int) -> None:
        """Give each Bytewax worker its partitions: two that served one partition would mix up its order."""
        waiting = [partition for ready in self._ready.values() for partition in ready]
        self._slots = slots
        self._ready = {}
        for partition in waiting:
            self._ready.setdefault(partition.topic_partition[1] % slots, deque()).append(partition)

    def _pop_from(self, partition: Partition, limit: int) -> list[Record]:
        buffer = partition.buffer
        if len(buffer) <= limit:
            records = list(buffer)
            buffer.clear()
        else:
            records = [buffer.popleft() for _ in range(limit)]
        size = self._in_flight.add(partition.assignment, records)
        partition.size -= size
        self._size -= size
        return records

    def _drop(self, partition: Partition) -> None:
        self._size -= partition.size
        partition.size = 0
        partition.buffer.clear()
