"""In-memory log: records by partition, and the committed offsets of a group."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.kernel.partition_row import PartitionRow
from drakkar_flow.model.codec import encode
from drakkar_flow.model.record import Record, TopicPartition, Watermark

__all__ = ["MemoryLog"]

_Commit = tuple[Watermark, str, PartitionRow | None, Mapping[int, bytes]]


class MemoryLog:
    """Outlives the readers that read from it, as a broker outlives its consumers. Thread-safe.

    `committed` holds the next offset to read by partition; `commits` every commit in order. `rows` holds the last
    committed row of each partition of a flow with state, `shards` those of its shards.

    >>> log = MemoryLog()
    >>> log.append("hello").label, log.append({"n": 1}).label
    ('input:0:0', 'input:0:1')
    """

    def __init__(self, *, partitions: int = 1, topic: str = "input") -> None:
        self._topic = topic
        self._count = partitions
        self._dealt = 0
        self.lock = threading.RLock()
        self.records: dict[TopicPartition, list[Record]] = {(topic, number): [] for number in range(partitions)}
        self.committed: dict[TopicPartition, int] = {}
        self.commits: list[Watermark] = []
        self.rows: dict[TopicPartition, PartitionRow] = {}
        self.shards: dict[int, bytes] = {}
        self._metadata: dict[TopicPartition, tuple[int, str]] = {}
        self._held: list[_Commit] | None = None

    def append(self, value: Any, *, topic: str = "", partition: int | None = None, **details: Any) -> Record:
        """Append a record to the log: bytes as they are, text as UTF-8, anything else as JSON.

        Values without a partition are dealt to the partitions in turn. A Record in place of a value has its own
        partition and offset.
        """
        with self.lock:
            if isinstance(value, Record):
                record = value
            else:
                if partition is None:
                    partition = self._dealt % self._count
                    self._dealt += 1
                topic_partition = (topic or self._topic, partition)
                record = Record(*topic_partition, self.end_of(topic_partition), encode(value), **details)
            self.records.setdefault(record.topic_partition, []).append(record)
            return record

    def end_of(self, topic_partition: TopicPartition) -> int:
        """Return the offset after the last record of a partition, 0 if it has none."""
        records = self.records.get(topic_partition)
        return records[-1].offset + 1 if records else 0

    def all_committed(self, topic_partitions: Iterable[TopicPartition]) -> bool:
        """Return True if partitions are committed to their ends; also while commits are held."""
        with self.lock:
            return self._held is not None or all(
                self.committed.get(topic_partition, 0) == self.end_of(topic_partition)
                for topic_partition in topic_partitions
                if self.records.get(topic_partition)
            )

    def commit(
        self,
        watermark: Watermark,
        metadata: str = "",
        row: PartitionRow | None = None,
        shards: Mapping[int, bytes] = MappingProxyType({}),
    ) -> bool:
        """Accept a commit, or hold it back while commits are held; returns True if it changed the log.

        `metadata` holds the offsets finished out of order; it may be the only change. A `row` replaces it. `shards` are
        rows of shards that belong to it.
        """
        with self.lock:
            if self._held is not None:
                self._held.append((watermark, metadata, row, shards))
                return False
            self.shards.update(shards)
            topic_partition, _, offset = watermark
            if row is not None:
                self.rows[topic_partition] = row
            is_new = self._metadata.get(topic_partition) != (offset, metadata)
            self._metadata[topic_partition] = (offset, metadata)
            if offset > self.committed.get(topic_partition, self._first(topic_partition)):
                self.committed[topic_partition] = offset
                self.commits.append(watermark)
            return is_new

    def start_of(self, topic_partition: TopicPartition) -> tuple[int, OffsetRanges]:
        """Return the offset at which a new reader begins, and the offsets finished beyond."""
        if (row := self.rows.get(topic_partition)) is not None:
            return row.offset, OffsetRanges(row.finished)
        offset, metadata = self._metadata.get(topic_partition, (self._first(topic_partition), ""))
        return offset, OffsetRanges.decode(metadata, offset)

    def knows_finished(self, topic_partition: TopicPartition, offset: int) -> bool:
        """Return True if a record is finished according to the commits."""
        start, out_of_order = self.start_of(topic_partition)
        return offset < start or offset in out_of_order

    def _first(self, topic_partition: TopicPartition) -> int:
        records = self.records.get(topic_partition)
        return records[0].offset if records else 0

    def hold_commits(self) -> None:
        """Hold commits back from now on, as a client does for a while with those that are not due yet."""
        with self.lock:
            self._held = self._held or []

    def let_commits_go(self) -> list[Watermark]:
        """Accept the held commits; returns those that changed the log."""
        with self.lock:
            held, self._held = self._held or [], None
            return [commit[0] for commit in held if self.commit(*commit)]

    def commit_held(self, topic_partitions: Collection[TopicPartition]) -> list[Watermark]:
        """Accept the held commits of some partitions: they leave, and a client commits what it still can."""
        with self.lock:
            if self._held is None:
                return []
            going = [each for each in self._held if each[0].topic_partition in topic_partitions]
            staying = [each for each in self._held if each[0].topic_partition not in topic_partitions]
            self._held = None
            made = [commit[0] for commit in going if self.commit(*commit)]
            self._held = staying
            return made

    def forget_held_of(self, topic_partitions: Collection[TopicPartition]) -> None:
        """Forget the held commits of some partitions: another member has them, and the brokers refuse our commits."""
        with self.lock:
            if self._held is not None:
                self._held = [each for each in self._held if each[0].topic_partition not in topic_partitions]

    def forget_held(self) -> None:
        """Forget held commits, as a crash does, and hold none from now on."""
        with self.lock:
            self._held = None
