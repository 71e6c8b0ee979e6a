"""Commits: what a group's member says to the brokers, on the reader's thread.

A commit's metadata tells what is finished beyond its offset, so that one slow record does not make
the next owner repeat what was finished behind it. Without the metadata, or where it has no room for
all of it, the rest is done again: nothing is ever left out that was not finished.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from drakkar_flow.kernel.kafka_errors import Severity, report, severity_of
from drakkar_flow.kernel.spans import Spans
from drakkar_flow.model.record import Lane, Watermark
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.source import CommitFailed, Committed, ConsumerError
from drakkar_flow.runtime.group.buffers import Buffers, Partition
from drakkar_flow.runtime.group.positions import Positions

__all__ = ["FINAL_COMMIT_S", "Commits"]

FINAL_COMMIT_S = 10.0
"""How long the last commit may take."""
_FINAL_COMMIT_POLLS = 10  # of 0.1 s between two attempts at it
_FETCH_S = 5.0  # how long an assignment waits to learn what was committed before

Mark = tuple[int, str]
"""What is committed for a partition: an offset, and the metadata."""


class Commits:
    """Commits positions with what is finished beyond them, at most `metadata_size` characters of it (0: none).

    `hopeless` gets the errors of commits that no new attempt gets over.
    """

    def __init__(
        self,
        positions: Positions,
        buffers: Buffers,
        bus: Bus,
        beyond: Callable[[Lane, int], Spans],
        metadata_size: int,
        hopeless: Callable[[KafkaError], None] = lambda _error: None,
    ) -> None:
        self._hopeless = hopeless
        self._positions = positions
        self._buffers = buffers
        self._bus = bus
        self._beyond = beyond
        self._metadata_size = metadata_size
        self._sent: dict[Lane, Mark] = {}  # what was committed last, of present assignments
        self._committed: dict[Lane, Mark] = {}  # what the brokers have confirmed last
        self._finally = False

    def begin(self, consumer: Consumer, assigned: list[TopicPartition]) -> dict[Lane, tuple[int, Spans]]:
        """Read where new assignments start, and what is finished beyond."""
        self.forget((item.topic, item.partition) for item in assigned)
        if not self._metadata_size:
            return {}
        try:
            committed = consumer.committed(assigned, _FETCH_S)
        except KafkaException as exc:
            self._bus.emit(ConsumerError(f"what is finished beyond the committed offsets is not known: {report(exc)}"))
            return {}
        return {
            (item.topic, item.partition): (item.offset, Spans.decode(item.metadata or "", item.offset))
            for item in committed
            if item.error is None and item.offset >= 0
        }

    def forget(self, lanes: Iterable[Lane]) -> None:
        """What was committed for partitions is void: their log is another one."""
        for lane in lanes:
            self._sent.pop(lane, None)
            self._committed.pop(lane, None)

    def commit_soon(self, consumer: Consumer, now: float) -> None:
        """Commit what is due, without waiting for the answer."""
        offsets = self._positions.take(self._buffers.assignments(), now)
        if offsets:
            self._commit(consumer, self._marks(offsets))

    def commit_now(self, consumer: Consumer, partitions: list[Partition]) -> None:
        """Commit for partitions that are about to go; a second time when only the metadata was refused."""
        offsets = self._positions.of(dict(partition.assignment for partition in partitions))
        for _ in range(2 if offsets and not self._finally else 0):
            marks = {item.lane: self._mark(item, offsets[item.lane]) for item in partitions if item.lane in offsets}
            self._sent.update(marks)
            try:
                consumer.commit(offsets=_at(marks), asynchronous=False)
            except KafkaException as exc:
                self._refused(exc.args[0], ())
                if self._metadata_size:
                    break
            else:
                self._accepted(marks)
                break

    def commit_finally(self, consumer: Consumer, limit_s: float = FINAL_COMMIT_S) -> None:
        """Commit what was not yet; a synchronous commit would wait for brokers that are gone, 45 s and more."""
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

    def on_commit(self, error: KafkaError | None, answers: list[TopicPartition]) -> None:
        """Take the brokers' answer in: librdkafka's callback."""
        taken: dict[Lane, Mark] = {}
        refused: dict[Lane, KafkaError] = {}
        for item in answers:
            lane = (item.topic, item.partition)
            reason = error or item.error
            if reason is not None:
                refused[lane] = reason
            else:
                taken[lane] = (item.offset, item.metadata or "")
        if refused:
            self._refused(next(iter(refused.values())), refused)
        self._accepted(taken)

    def _marks(self, offsets: Mapping[Lane, int]) -> dict[Lane, Mark]:
        partitions = {partition.lane: partition for partition in self._buffers.partitions()}
        return {lane: self._mark(partitions[lane], offset) for lane, offset in offsets.items()}

    def _mark(self, partition: Partition, offset: int) -> Mark:
        """What to commit for an offset: it passes over what was finished before, the rest is metadata."""
        spans = self._beyond(*partition.assignment)
        for span in partition.done:
            spans.add(*span)
        start = max(offset, partition.base)
        offset = spans.end_of(start)
        if offset > start:
            self._positions.note([Watermark(*partition.assignment, offset)])
        partition.done.cut(offset)
        return offset, spans.encode(offset, self._metadata_size)

    def _commit(self, consumer: Consumer, marks: Mapping[Lane, Mark]) -> None:
        self._sent.update(marks)
        try:
            consumer.commit(offsets=_at(marks), asynchronous=True)
        except KafkaException as exc:
            self._refused(exc.args[0], marks)

    def _accepted(self, marks: Mapping[Lane, Mark]) -> None:
        if marks:
            self._positions.put_back(self._overwritten(marks))
            self._committed.update(marks)
            offsets = {lane: offset for lane, (offset, _) in marks.items()}
            self._positions.accepted(offsets)
            self._bus.emit(Committed(tuple(offsets.items())))

    def _overwritten(self, marks: Mapping[Lane, Mark]) -> list[Lane]:
        """The partitions whose newest commit was followed by an older one.

        librdkafka repeats requests that a connection took down with it, and later ones are not held back meanwhile:
        without a new commit the older offset would stay.
        """
        newest = [lane for lane in marks if self._committed.get(lane) == self._sent.get(lane)]
        return [lane for lane in newest if marks[lane] != self._sent.get(lane)]

    def _refused(self, error: KafkaError, lanes: Iterable[Lane]) -> None:
        if error.code() == KafkaError.OFFSET_METADATA_TOO_LARGE:
            self._metadata_size = 0  # these brokers allow less than others: offsets alone, then
        self._positions.put_back(lanes)
        self._bus.emit(CommitFailed(report(error), tuple(lanes)))
        if severity_of(error) is not Severity.RECOVERABLE:
            self._hopeless(error)

    def _uncommitted(self) -> dict[Lane, Mark]:
        marks = self._marks(self._positions.of(self._buffers.assignments()))
        return {lane: mark for lane, mark in marks.items() if self._committed.get(lane) != mark}


def _at(marks: Mapping[Lane, Mark]) -> list[TopicPartition]:
    return [TopicPartition(*lane, offset, metadata) for lane, (offset, metadata) in marks.items()]
