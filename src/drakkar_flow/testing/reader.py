"""A source in memory: gives out the records of a log, by assignments, and commits to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.model.record import Record, TopicPartition, Watermark
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.source import Committed, RecordsConsumed, RecordsKnownFinished
from drakkar_flow.runtime.acknowledgement.in_flight import Assignment, InFlight
from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.runtime.group.assignment_lifecycle import AssignmentLifecycle
from drakkar_flow.runtime.group.assignments import AssignmentHooks
from drakkar_flow.runtime.group.buffers import Buffers, Partition
from drakkar_flow.runtime.reader import ReaderStatistics
from drakkar_flow.testing.log import MemoryLog

__all__ = ["MemoryReader"]

_HOOK_S = 5.0  # real seconds that on_revoke may take
_BOUND = 1 << 40  # what is in memory already needs no bound


class MemoryReader:
    """Gives out records as a consumer group's member would, and keeps what is committed. Thread-safe.

    `values` are dealt to `partitions` partitions of `topic` in turn, with offsets from 0: bytes as
    they are, text as UTF-8, anything else as JSON. A Record instead of a value says itself where it
    stands. `committed` holds the next offset to read by partition; `commits` every commit in order.
    A `log` that is there already is read on from what is committed in it. `out_of_order` says what an assignment
    has finished above its watermark; at most `metadata_size` characters of that are committed too. `bus` hears what
    a group's member would tell, `hooks` of assignments that begin and end.
    """

    def __init__(
        self,
        values: Iterable[Any],
        in_flight: InFlight,
        *,
        bus: Bus | None = None,
        hooks: AssignmentHooks | None = None,
        partitions: int = 1,
        topic: str = "input",
        log: MemoryLog | None = None,
        out_of_order: Callable[[TopicPartition, int], OffsetRanges] = lambda _topic_partition, _epoch: OffsetRanges(),
        metadata_size: int = 0,
    ) -> None:
        self._bus = bus or Bus()
        self._out_of_order = out_of_order
        self._metadata_size = metadata_size
        self.log = log or MemoryLog(partitions=partitions, topic=topic)
        self._lock = self.log.lock
        self._engine = in_flight.engine
        self._buffers = Buffers(in_flight, _BOUND, _BOUND)
        self._handover = AssignmentLifecycle(
            self._buffers,
            in_flight,
            self._bus,
            hooks or AssignmentHooks(EventLoopThread(), self._bus, None, None, _HOOK_S),
        )
        self.arrived = 0
        """How many records could be given out so far, those of earlier assignments included."""
        self._started = False
        self._ended = False
        self._detached = False
        self._positions: dict[Assignment, int] = {}
        self.put(values)

    @property
    def topic_partitions(self) -> list[TopicPartition]:
        """Every partition there is, assigned or not."""
        return list(self.log.records)

    @property
    def assigned(self) -> list[TopicPartition]:
        """Every partition that is assigned."""
        return list(self._buffers.assignments())

    @property
    def committed(self) -> dict[TopicPartition, int]:
        """The next offset to read by partition."""
        return self.log.committed

    @property
    def commits(self) -> list[Watermark]:
        """Every commit in order."""
        return self.log.commits

    def end_of(self, topic_partition: TopicPartition) -> int:
        """The offset after the last record of a partition, 0 when it has none."""
        return self.log.end_of(topic_partition)

    # --- what a test does -----------------------------------------------------------------------

    def put(self, values: Iterable[Any]) -> None:
        """Write to the log; what belongs to an assigned partition can be read at once."""
        for value in values:
            self.send(value)

    def send(self, value: Any, **details: Any) -> Record:
        """Write one record to the log; returns it as it stands there. A new partition is assigned at once."""
        with self._lock:
            known = len(self.log.records)
            record = self.log.append(value, **details)
            if self._started and len(self.log.records) > known:
                self.assign([record.topic_partition])
            else:
                self._read([record])
            return record

    def end(self) -> None:
        """Say that nothing more will be put."""
        self._ended = True
        self._engine.wake()

    def detach(self) -> None:
        """Commit nothing from now on: the process has crashed."""
        with self._lock:
            self._detached = True

    def assign(self, topic_partitions: Iterable[TopicPartition] | None = None) -> None:
        """Begin a new assignment of `topic_partitions`, by default of all: they are read from what is committed."""
        with self._lock:
            begun = self.topic_partitions if topic_partitions is None else list(topic_partitions)
            known = {topic_partition: self.log.start_of(topic_partition) for topic_partition in begun}
            self._handover.begin(begun, known)
            for topic_partition in begun:
                start, _ = known[topic_partition]
                self._read([record for record in self.log.records.get(topic_partition, []) if record.offset >= start])

    def revoke(self, topic_partitions: Iterable[TopicPartition] | None = None, drain_s: float | None = 0.0) -> int:
        """Take `topic_partitions` away, by default all; returns how many records had not finished after `drain_s`."""
        going = set(self.assigned if topic_partitions is None else topic_partitions)
        return self._handover.end(going, self._commit_last, drain_s=drain_s, hook_s=_HOOK_S + (drain_s or 0.0))

    def lose(self, topic_partitions: Iterable[TopicPartition] | None = None) -> None:
        """Have somebody else own `topic_partitions` already, by default all: nothing of them is committed any more."""
        self._handover.lose(self.assigned if topic_partitions is None else topic_partitions)

    def let_commits_go(self) -> None:
        """Make the commits that the log holds."""
        self._tell(self.log.let_commits_go())

    # --- what the flow does ---------------------------------------------------------------------

    def start(self) -> None:
        """Assign every partition."""
        self._started = True
        self.assign()

    @property
    def uncommitted(self) -> int:
        """Nothing: a commit to memory is there at once."""
        return 0

    def pop(self, limit: int, slot: int, slots: int) -> list[list[Record]]:
        """Give at most `limit` records."""
        with self._lock:
            return self._buffers.pop(limit, slot, slots)

    @property
    def exhausted(self) -> bool:
        """Whether `end` was called and everything assigned was given out."""
        with self._lock:
            return self._ended and not any(partition.buffer for partition in self._buffers.partitions())

    def commit(self, watermarks: list[Watermark]) -> None:
        """Commit at once what belongs to a present assignment, with what is finished beyond."""
        self._commit(watermarks)

    def out_of_order_ranges(self, ranges: Mapping[Assignment, int]) -> None:
        """Commit what is finished beyond watermarks; give nothing out where that is scattered too widely."""
        with self._lock:
            self._buffers.out_of_order_ranges(ranges)
        self._commit(Watermark(topic_partition, epoch, -1) for topic_partition, epoch in ranges)

    def _commit(self, watermarks: Iterable[Watermark]) -> None:
        with self._lock:
            self._tell([made for each in watermarks if (made := self._commit_one(*each)) is not None])

    def _commit_one(self, topic_partition: TopicPartition, epoch: int, offset: int) -> Watermark | None:
        self._positions[topic_partition, epoch] = max(offset, self._positions.get((topic_partition, epoch), 0))
        partition = self._buffers.get(topic_partition)
        if self._detached or partition is None or partition.epoch != epoch:
            return None  # what drains is committed when it goes
        return self._commit_position(partition)

    def _commit_position(self, partition: Partition) -> Watermark | None:
        topic_partition, epoch = partition.assignment
        out_of_order = self._out_of_order(topic_partition, epoch)
        for span in partition.done:
            out_of_order.add(*span)
        offset = out_of_order.end_of(max(partition.base, self._positions[topic_partition, epoch]))
        self._positions[topic_partition, epoch] = offset
        made = Watermark(topic_partition, epoch, offset)
        return made if self.log.commit(made, out_of_order.encode(offset, self._metadata_size)) else None

    def _commit_last(self, partitions: list[Partition]) -> None:
        """Commit what finished while partitions drained, and what the log holds of them: they go."""
        with self._lock:
            drained = [each for each in partitions if each.assignment in self._positions and not self._detached]
            self._tell([made for each in drained if (made := self._commit_position(each)) is not None])
            self._tell(self.log.commit_held({partition.topic_partition for partition in partitions}))

    def _tell(self, made: list[Watermark]) -> None:
        if made:
            self._bus.emit(Committed(tuple({topic_partition: offset for topic_partition, _, offset in made}.items())))

    def close(self) -> None:
        """Give up every assignment; a reader that has crashed just goes."""
        if self.assigned and not self._detached:
            self.revoke(drain_s=None)

    def statistics(self) -> ReaderStatistics:
        """What waits to be given out, and how far the commits are behind."""
        with self._lock:
            queued = {partition.topic_partition: len(partition.buffer) for partition in self._buffers.partitions()}
            return ReaderStatistics(
                queued,
                {
                    topic_partition: self.end_of(topic_partition) - self.committed.get(topic_partition, 0)
                    for topic_partition in queued
                },
            )

    def _read(self, records: list[Record]) -> None:
        """Read records of one partition, if it is assigned."""
        partition = self._buffers.get(records[0].topic_partition) if records else None
        if partition is None:
            return
        read = [record for record in records if record.offset not in partition.done]
        if known := len(records) - len(read):
            self._bus.emit(RecordsKnownFinished(partition.topic_partition, known))
        if not read:
            return
        for stored in read:
            record = replace(stored, epoch=partition.epoch, previous=partition.last_offset, read_at=time.monotonic())
            partition.last_offset = stored.offset
            self._buffers.append(partition, [record])
            self.arrived += 1
        self._bus.emit(RecordsConsumed(partition.topic_partition, len(read), sum(record.size for record in read)))
