"""Slots: the end of the dataflow in fixed mode, where acknowledgements become rows of the recovery store.

A slot is a share of the partitions that never changes, so its row survives another number of processes. Its sink part
holds what group mode has in two steps, the tracker and the commit, because both are stored in one row.
"""

from __future__ import annotations

from collections.abc import Iterable

from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from drakkar_flow.kernel.partition_row import PartitionRow, decode_rows, encode_rows
from drakkar_flow.kernel.slots import slot_of, slots_of_process
from drakkar_flow.model.outcome import Ack
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.runtime.acknowledgement.commit import Finisher, Track
from drakkar_flow.runtime.chunk import Keyed
from drakkar_flow.runtime.recovery.positions import DurablePositions, Position

__all__ = ["BySlot", "HelloSource", "SlotSink"]

_NAMES = slots_of_process(0, 1)

SlotItem = tuple[str, list[Ack]]
"""A slot's name and its acknowledgements; none is the hello of a start."""


class BySlot:
    """Step function that sorts the acknowledgements of chunks by slot; they come in runs of one partition."""

    def __init__(self) -> None:
        self._slots: dict[TopicPartition, str] = {}

    def __call__(self, batch: list[Keyed]) -> list[SlotItem]:
        """Return the acknowledgements of a batch, one list per slot."""
        found: dict[str, list[Ack]] = {}
        topic, partition = "", -1
        acks: list[Ack] = []
        for _, chunk in batch:
            for ack in chunk.acks:
                record = ack.record
                if record.partition != partition or record.topic != topic:
                    topic, partition = record.topic, record.partition
                    acks = found.setdefault(self._slot(topic, partition), [])
                acks.append(ack)
        return list(found.items())

    def _slot(self, topic: str, partition: int) -> str:
        name = self._slots.get((topic, partition))
        if name is None:
            name = self._slots[(topic, partition)] = slot_of((topic, partition))
        return name


class HelloSource(DynamicSource[SlotItem]):
    """Bytewax source that greets each slot once: a part that Bytewax has no row for is made only by an item."""

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Hello:
        """Make the part of a Bytewax worker."""
        return _Hello()


class _Hello(StatelessSourcePartition[SlotItem]):
    def __init__(self) -> None:
        self._greeted = False

    def next_batch(self) -> list[SlotItem]:
        if self._greeted:
            raise StopIteration
        self._greeted = True
        return [(name, []) for name in _NAMES]


class SlotSink(FixedPartitionedSink[list[Ack], bytes]):
    """The only Bytewax output of fixed mode."""

    def __init__(self, positions: DurablePositions, track: Track, finisher: Finisher) -> None:
        self._parts = (positions, track, finisher)

    def list_parts(self) -> list[str]:
        """Return the slots of this process."""
        return _NAMES

    def part_fn(self, item_key: str) -> int:
        """Return the index of a slot."""
        return _NAMES.index(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> _SlotPart:
        """Make the part of a slot, with its row."""
        return _SlotPart(for_part, *self._parts, {} if resume_state is None else decode_rows(resume_state))


class _SlotPart(StatefulSinkPartition[list[Ack], bytes]):
    def __init__(
        self,
        slot: str,
        positions: DurablePositions,
        track: Track,
        finisher: Finisher,
        rows: dict[TopicPartition, PartitionRow],
    ) -> None:
        self._slot = slot
        self._positions = positions
        self._track = track
        self._finisher = finisher
        self._rows = rows  # those of the start
        self._latest: dict[TopicPartition, PartitionRow] = {}  # those of this run
        self._epochs: dict[TopicPartition, int] = {}
        self._greeted = False
        self.row = encode_rows(rows)
        """The last row that was taken."""

    def write_batch(self, values: list[list[Ack]]) -> None:
        acks: list[Ack] = []
        for value in values:
            if value:
                acks += value
            elif not self._greeted:
                self._greeted = True
                self._begin()
        if acks:
            for settled in self._track.settle(acks):
                self._note(assignment for assignment in settled.finished)
                self._finisher.finish(settled)

    def snapshot(self) -> bytes:
        taken: dict[TopicPartition, Position] = {}
        for topic_partition, epoch in self._epochs.items():
            now = self._track.row(topic_partition, epoch)
            if now is not None:  # else a record was not delivered: nothing of the partition changes any more
                self._latest[topic_partition] = row = self._joined(topic_partition, now)
                taken[topic_partition] = Position(epoch, row.offset, row.finished)
        self.row = encode_rows(self._rows | self._latest)
        self._positions.taken(taken)
        return self.row

    def _begin(self) -> None:
        self._rows = self._positions.load(self._slot, self._rows)
        for topic_partition, row in self._rows.items():
            self._track.load(topic_partition, row.state)

    def _note(self, assignments: Iterable[tuple[TopicPartition, int]]) -> None:
        """Note the assignments of finished records; a row of an earlier assignment of this run is void."""
        for topic_partition, epoch in assignments:
            before = self._epochs.get(topic_partition)
            if before is None or epoch > before:
                self._epochs[topic_partition] = epoch
                if before is not None:  # the log was rewound
                    self._rows.pop(topic_partition, None)
                    self._latest.pop(topic_partition, None)

    def _joined(self, topic_partition: TopicPartition, now: PartitionRow) -> PartitionRow:
        """Add the offsets that were finished before the start to the present row."""
        offset, finished = now.offset, now.finished
        loaded = self._rows.get(topic_partition)
        if loaded is not None:
            offset = max(offset, loaded.offset)
            for span in loaded.finished:
                finished.add(*span)
        offset = finished.end_of(max(0, offset))
        finished.cut(offset)
        return PartitionRow(offset, finished, now.state)
