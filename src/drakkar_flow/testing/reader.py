"""Reader in memory: returns the records of a log, by assignments, and commits to it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from drakkar_flow.kernel.partition_row import PartitionRow
from drakkar_flow.model.record import Record, TopicPartition, Watermark
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.source import Committed, RecordsConsumed, RecordsKnownFinished
from drakkar_flow.runtime.acknowledgement.commit import Track
from drakkar_flow.runtime.acknowledgement.in_flight import Assignment, InFlight
from drakkar_flow.runtime.across.shards import Shards
from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.runtime.group.assignment_lifecycle import AssignmentLifecycle
from drakkar_flow.runtime.group.assignments import AssignmentHooks
from drakkar_flow.runtime.group.buffers import Buffers, Partition
from drakkar_flow.runtime.reader import ReaderStatistics
from drakkar_flow.testing.ack_log import WatchedTrack
from drakkar_flow.testing.log import MemoryLog

__all__ = ["MemoryReader"]

_HOOK_S = 5.0  # real seconds that on_revoke may take
_BOUND = 1 << 40  # the log is in memory already and needs no bound


class MemoryReader:
    """Returns records as a consumer group's member would, and keeps commits. Thread-safe.

    - `values` are dealt to `partitions` partitions of `topic` in turn, with offsets from 0: bytes as they are, text as
      UTF-8, anything else as JSON. A Record in place of a value has its own partition and offset.
    - `committed` holds the next offset to read by partition; `commits` every commit in order.
    - An existing `log` is read on from its committed offsets.
    - `track` knows the offsets that an assignment has finished above its watermark; at most `metadata_size` characters
      of them are committed too. With the state of a flow they are all committed, as one row.
    - `shards` has the state across partitions of a flow: then each commit is of all partitions and shards together.
    - `bus` gets the events of a group's member, `hooks` the begin and end of assignments.
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
        track: Track | None = None,
        shards: Shards | None = None,
        metadata_size: int = 0,
    ) -> None:
        self._bus = bus or Bus()
        self._track = track or Track()
        self._shards = shards
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
        """Number of records that could be returned so far, those of earlier assignments included."""
        self._started = False
        self._ended = False
        self._detached = False
        self._positions: dict[Assignment, int] = {}
        self.put(values)

    @property
    def topic_partitions(self) -> list[TopicPartition]:
        """Every partition, assigned or not."""
        return list(self.log.records)

    @property
    def assigned(self) -> list[TopicPartition]:
        """Every assigned partition."""
        return list(self._buffers.assignments())

    @property
    def committed(self) -> dict[TopicPartition, int]:
        """Next offset to read by partition."""
        return self.log.committed

    @property
    def commits(self) -> list[Watermark]:
        """Every commit in order."""
        return self.log.commits

    def end_of(self, topic_partition: TopicPartition) -> int:
        """Return the offset after the last record of a partition, 0 if it has none."""
        return self.log.end_of(topic_partition)

    # --- called by a test -----------------------------------------------------------------------

    def put(self, values: Iterable[Any]) -> None:
        """Write to the log; records of an assigned partition can be read at once."""
        for value in values:
            self.send(value)

    def send(self, value: Any, **details: Any) -> Record:
        """Write one record to the log; returns it with its offset. A new partition is assigned at once."""
        with self._lock:
            known = len(self.log.records)
            record = self.log.append(value, **details)
            if self._started and len(self.log.records) > known:
                self.assign([record.topic_partition])
            else:
                self._read([record])
            return record

    def end(self) -> None:
        """Note that no more records will be written."""
        self._ended = True
        self._engine.wake()

    def detach(self) -> None:
        """Commit nothing from now on: the process has crashed."""
        with self._lock:
            self._detached = True

    def assign(self, topic_partitions: Iterable[TopicPartition] | None = None) -> None:
        """Begin a new assignment of `topic_partitions`, by default of all: reading starts at the committed offsets."""
        with self._lock:
            begun = self.topic_partitions if topic_partitions is None else list(topic_partitions)
            known = {topic_partition: self.log.start_of(topic_partition) for topic_partition in begun}
            self._handover.begin(begun, known)
            for topic_partition in begun:
                self._load_state(topic_partition)
                start, _ = known[topic_partition]
                self._read([record for record in self.log.records.get(topic_partition, []) if record.offset >= start])

    def revoke(self, topic_partitions: Iterable[TopicPartition] | None = None, drain_s: float | None = 0.0) -> int:
        """Take `topic_partitions` away, by default all; returns the number of records unfinished after `drain_s`."""
        going = set(self.assigned if topic_partitions is None else topic_partitions)
        return self._handover.end(going, self._commit_last, drain_s=drain_s, hook_s=_HOOK_S + (drain_s or 0.0))

    def lose(self, topic_partitions: Iterable[TopicPartition] | None = None) -> None:
        """Lose `topic_partitions` to another member, by default all: none of their records is committed any more."""
        with self._lock:
            lost = self._handover.lose(self.assigned if topic_partitions is None else list(topic_partitions))
            self.log.forget_held_of(lost)

    def let_commits_go(self) -> None:
        """Make the commits that the log holds."""
        self._emit_commits(self.log.let_commits_go())

    # --- called by the flow ---------------------------------------------------------------------

    def start(self) -> None:
        """Assign every partition."""
        self._started = True
        if self._shards is not None:
            for shard in self._shards.own:
                self._shards.load(shard, self.log.shards.get(shard))
        self.assign()

    @property
    def uncommitted(self) -> int:
        """Always 0: a commit to memory is done at once."""
        return 0

    def pop(self, limit: int, slot: int, slots: int) -> list[list[Record]]:
        """Return at most `limit` records."""
        with self._lock:
            return self._buffers.pop(limit, slot, slots)

    @property
    def exhausted(self) -> bool:
        """True if `end` was called and all assigned records were returned."""
        with self._lock:
            return self._ended and not any(partition.buffer for partition in self._buffers.partitions())

    def commit(self, watermarks: list[Watermark]) -> None:
        """Commit watermarks of present assignments at once, with the offsets finished beyond."""
        self._commit(watermarks)

    def out_of_order_ranges(self, ranges: Mapping[Assignment, int]) -> None:
        """Commit the offsets finished beyond watermarks; return no records where they are scattered too widely."""
        with self._lock:
            self._buffers.out_of_order_ranges(ranges)
        self._commit(Watermark(topic_partition, epoch, -1) for topic_partition, epoch in ranges)

    def _commit(self, watermarks: Iterable[Watermark]) -> None:
        with self._lock:
            wanted = list(watermarks)
            if self._shards is not None and wanted:
                wanted += [Watermark(*each.assignment, -1) for each in self._buffers.partitions()]
            self._emit_commits([made for each in wanted if (made := self._commit_one(*each)) is not None])

    def _commit_one(self, topic_partition: TopicPartition, epoch: int, offset: int) -> Watermark | None:
        self._positions[topic_partition, epoch] = max(offset, self._positions.get((topic_partition, epoch), 0))
        partition = self._buffers.get(topic_partition)
        if self._detached or partition is None or partition.epoch != epoch:
            return None  # draining partitions are committed when they leave
        return self._commit_position(partition)

    def _commit_position(self, partition: Partition) -> Watermark | None:
        topic_partition, epoch = partition.assignment
        position, state = self._positions[topic_partition, epoch], None
        shares: Mapping[int, Collection[int]] = {}
        if self._track.ledgers is None and self._shards is None:
            out_of_order = self._track.out_of_order(topic_partition, epoch)
        else:
            row = self._track.row(topic_partition, epoch)
            if row is None:
                return None  # fenced: the last committed row counts
            position, out_of_order, state, shares = row
        for span in partition.done:
            out_of_order.add(*span)
        offset = out_of_order.end_of(max(partition.base, position))
        self._positions[topic_partition, epoch] = offset
        made = Watermark(topic_partition, epoch, offset)
        row = None if state is None else PartitionRow(offset, out_of_order, state, shares)
        metadata = out_of_order.encode(offset, self._metadata_size)
        return made if self.log.commit(made, metadata, row, self._shard_rows()) else None

    def _load_state(self, topic_partition: TopicPartition) -> None:
        """Begin an assignment with the state of the last committed row."""
        partition = self._buffers.get(topic_partition)
        if self._track.ledgers is not None and partition is not None:
            row = self.log.rows.get(topic_partition)
            self._track.ledgers.load(topic_partition, row.state if row is not None else {}, partition.epoch)
        if self._track.shares is not None and (row := self.log.rows.get(topic_partition)) is not None:
            self._track.shares.load(topic_partition, row.shares)

    def _shard_rows(self) -> Mapping[int, bytes]:
        return dict(self._track.shard_rows) if isinstance(self._track, WatchedTrack) else {}

    def _commit_last(self, partitions: list[Partition]) -> None:
        """Commit watermarks of drained partitions, and the commits that the log holds of them: they leave."""
        with self._lock:
            drained = [each for each in partitions if each.assignment in self._positions and not self._detached]
            self._emit_commits([made for each in drained if (made := self._commit_position(each)) is not None])
            self._emit_commits(self.log.commit_held({partition.topic_partition for partition in partitions}))

    def _emit_commits(self, made: list[Watermark]) -> None:
        if made:
            self._bus.emit(Committed(tuple({topic_partition: offset for topic_partition, _, offset in made}.items())))

    def close(self) -> None:
        """End every assignment; a reader that has crashed ends without commits."""
        if self.assigned and not self._detached:
            self.revoke(drain_s=None)

    def statistics(self) -> ReaderStatistics:
        """Return the number of waiting records, and the lag of the commits."""
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
        size, first, last = sum(record.size for record in read), read[0].offset, read[-1].offset
        self._bus.emit(RecordsConsumed(partition.topic_partition, len(read), size, first, last, partition.epoch))
