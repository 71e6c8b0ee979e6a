"""Offset committer: commits of a group's member, on the reader's thread.

A commit's metadata holds the offset ranges that are finished beyond its offset, so one slow record does not make the
next owner repeat the records finished after it. Ranges that do not fit into the metadata are processed again. No
unfinished record is ever skipped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow.kernel.kafka_errors import Severity, report, severity_of
from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.model.record import TopicPartition, Watermark
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.source import CommitFailed, Committed, ConsumerError
from drakkar_flow.runtime.group.buffers import Buffers, Partition
from drakkar_flow.runtime.group.commit_queue import CommitQueue

__all__ = ["FINAL_COMMIT_S", "OffsetCommitter"]

FINAL_COMMIT_S = 10.0
"""Longest time of the last commit."""
_FINAL_COMMIT_POLLS = 10  # of 0.1 s between two attempts at it
_FETCH_S = 5.0  # the longest wait of an assignment for the committed offsets

Mark = tuple[int, str]
"""Committed offset of a partition, and its metadata."""


class OffsetCommitter:
    """Commits positions with the ranges finished beyond them, at most `metadata_size` characters (0: none).

    `on_fatal` gets the errors of commits that no new attempt can fix. With `marked` each commit has metadata,
    by which a later start recognises it. Brokers that refuse the ranges get the mark alone, and offsets alone if they
    refuse that too.
    """

    def __init__(
        self,
        positions: CommitQueue,
        buffers: Buffers,
        bus: Bus,
        out_of_order: Callable[[TopicPartition, int], OffsetRanges],
        metadata_size: int,
        on_fatal: Callable[[KafkaError], None] = lambda _error: None,
        *,
        marked: bool = False,
    ) -> None:
        self._marked = marked
        self._mark_text = OffsetRanges.MARK if marked and metadata_size else ""
        self._on_fatal = on_fatal
        self._positions = positions
        self._buffers = buffers
        self._bus = bus
        self._out_of_order = out_of_order
        self._metadata_size = metadata_size
        self._sent: dict[TopicPartition, Mark] = {}  # the last commits of present assignments
        self._committed: dict[TopicPartition, Mark] = {}  # the last confirmations of the brokers
        self._finally = False

    def begin(
        self, consumer: Consumer, assigned: list[KafkaPartition]
    ) -> dict[TopicPartition, tuple[int, OffsetRanges]]:
        """Read the committed offsets of new assignments, and the ranges finished beyond them.

        With `marked` none are read: the store has them, and a partition without a row begins at its first record.
        """
        self.forget((item.topic, item.partition) for item in assigned)
        if self._marked or not self._metadata_size:
            return {}
        try:
            committed = consumer.committed(assigned, _FETCH_S)
        except KafkaException as exc:
            self._bus.emit(
                ConsumerError(f"offsets finished out of order are unknown and processed again: {report(exc)}")
            )
            return {}
        return {
            (item.topic, item.partition): (item.offset, OffsetRanges.decode(item.metadata or "", item.offset))
            for item in committed
            if item.error is None and item.offset >= 0
        }

    def forget(self, topic_partitions: Iterable[TopicPartition]) -> None:
        """Forget the commits of partitions: their log was replaced."""
        for topic_partition in topic_partitions:
            self._sent.pop(topic_partition, None)
            self._committed.pop(topic_partition, None)

    def commit_soon(self, consumer: Consumer, now: float) -> None:
        """Commit due watermarks, without waiting for the answer."""
        offsets = self._positions.take(self._buffers.assignments(), now)
        if offsets:
            self._commit(consumer, self._marks(offsets))

    def commit_now(self, consumer: Consumer, partitions: list[Partition]) -> None:
        """Commit for partitions that are about to leave; again, with less metadata, if only that was refused."""
        offsets = self._positions.of(dict(partition.assignment for partition in partitions))
        again = bool(offsets) and not self._finally
        while again:
            marks = {
                item.topic_partition: self._mark(item, offsets[item.topic_partition])
                for item in partitions
                if item.topic_partition in offsets
            }
            self._sent.update(marks)
            try:
                consumer.commit(offsets=_at(marks), asynchronous=False)
            except KafkaException as exc:
                again = self._refused(exc.args[0], (), marks.values())
            else:
                self._accepted(marks)
                again = False

    def commit_finally(self, consumer: Consumer, limit_s: float = FINAL_COMMIT_S) -> None:
        """Commit remaining watermarks; a synchronous commit would wait 45 s and more for brokers that are gone."""
        limit_s = min(FINAL_COMMIT_S, limit_s)
        deadline = time.monotonic() + limit_s
        while (marks := self._uncommitted()) and time.monotonic() < deadline:
            self._commit(consumer, marks)
            for _ in range(_FINAL_COMMIT_POLLS):
                consumer.poll(0.1)  # also serves a rebalance that may be why it was refused
                if not self._uncommitted() or time.monotonic() >= deadline:
                    break
        if marks:
            self._bus.emit(CommitFailed(f"the last commit got no answer within {limit_s:.1f} s", tuple(marks)))
        self._finally = True

    def on_commit(self, error: KafkaError | None, answers: list[KafkaPartition]) -> None:
        """Handle the brokers' answer: librdkafka's callback."""
        taken: dict[TopicPartition, Mark] = {}
        refused: dict[TopicPartition, Mark] = {}
        why = error
        for item in answers:
            topic_partition = (item.topic, item.partition)
            reason, mark = error or item.error, (item.offset, item.metadata or "")
            if reason is not None:
                refused[topic_partition] = mark
                why = why or reason
            else:
                taken[topic_partition] = mark
        if why is not None and refused:
            self._refused(why, refused, refused.values())
        self._accepted(taken)

    def _marks(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, Mark]:
        partitions = {partition.topic_partition: partition for partition in self._buffers.partitions()}
        return {
            topic_partition: self._mark(partitions[topic_partition], offset)
            for topic_partition, offset in offsets.items()
        }

    def _mark(self, partition: Partition, offset: int) -> Mark:
        """Return the offset and metadata to commit: the offset passes over records finished before."""
        ranges = self._out_of_order(*partition.assignment)
        for span in partition.done:
            ranges.add(*span)
        start = max(offset, partition.base)
        offset = ranges.end_of(start)
        if offset > start:
            self._positions.note([Watermark(*partition.assignment, offset)])
        partition.done.cut(min(offset, partition.read_offset + 1))  # the reader skips the others when it gets there
        return offset, ranges.encode(offset, self._metadata_size) or self._mark_text

    def _commit(self, consumer: Consumer, marks: Mapping[TopicPartition, Mark]) -> None:
        self._sent.update(marks)
        try:
            consumer.commit(offsets=_at(marks), asynchronous=True)
        except KafkaException as exc:
            self._refused(exc.args[0], marks, marks.values())

    def _accepted(self, marks: Mapping[TopicPartition, Mark]) -> None:
        if marks:
            self._positions.put_back(self._overwritten(marks))
            self._committed.update(marks)
            offsets = {topic_partition: offset for topic_partition, (offset, _) in marks.items()}
            self._positions.accepted(offsets)
            self._bus.emit(Committed(tuple(offsets.items())))

    def _overwritten(self, marks: Mapping[TopicPartition, Mark]) -> list[TopicPartition]:
        """Return the partitions whose newest commit was followed by an older one.

        librdkafka repeats requests that were lost with a connection, and does not hold later ones back meanwhile:
        without a new commit the older offset would stay.
        """
        newest = [
            topic_partition
            for topic_partition in marks
            if self._committed.get(topic_partition) == self._sent.get(topic_partition)
        ]
        return [
            topic_partition for topic_partition in newest if marks[topic_partition] != self._sent.get(topic_partition)
        ]

    def _refused(self, error: KafkaError, topic_partitions: Iterable[TopicPartition], marks: Iterable[Mark]) -> bool:
        """Handle a refused commit of `marks`; returns True if the next one has less metadata for that reason."""
        is_shorter = error.code() == KafkaError.OFFSET_METADATA_TOO_LARGE and self._shorten(marks)
        self._positions.put_back(topic_partitions)
        self._bus.emit(CommitFailed(report(error), tuple(topic_partitions)))
        if severity_of(error) is not Severity.RECOVERABLE:
            self._on_fatal(error)
        return is_shorter

    def _shorten(self, marks: Iterable[Mark]) -> bool:
        """Leave out what these brokers have refused: the ranges first, then the mark; returns True if that is new."""
        longest = max((len(metadata) for _, metadata in marks), default=0)
        if self._metadata_size and longest > len(OffsetRanges.MARK):
            self._metadata_size = 0
            return True
        if self._mark_text and longest == len(OffsetRanges.MARK):
            self._mark_text = ""
            return True
        return False

    def _uncommitted(self) -> dict[TopicPartition, Mark]:
        marks = self._marks(self._positions.of(self._buffers.assignments()))
        return {
            topic_partition: mark
            for topic_partition, mark in marks.items()
            if self._committed.get(topic_partition) != mark
        }


def _at(marks: Mapping[TopicPartition, Mark]) -> list[KafkaPartition]:
    return [KafkaPartition(*topic_partition, offset, metadata) for topic_partition, (offset, metadata) in marks.items()]
