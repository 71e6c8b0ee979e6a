"""Slots: the end of the dataflow in fixed mode, where acknowledgements become rows of the recovery store.

A slot is a share of the partitions that never changes, so its row survives another number of processes. Its sink part
holds what group mode has in two steps, the tracker and the commit, because both are stored in one row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from typing import TypeVar

from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from drakkar_flow.kernel.partition_row import PartitionRow, decode_rows, encode_rows
from drakkar_flow.kernel.slots import slot_of, slots_of_process
from drakkar_flow.model.outcome import Ack
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.runtime.acknowledgement.commit import Finisher, Track
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.across.home import Away, SlimAcks, slim
from drakkar_flow.runtime.chunk import Keyed
from drakkar_flow.runtime.recovery.positions import DurablePositions, Position

__all__ = ["BySlot", "HelloSource", "SlotSink"]

_NAMES = slots_of_process(0, 1)

_by_place = attrgetter("record.topic", "record.partition", "record.offset")

T = TypeVar("T")

SlotItem = tuple[str, list[Ack] | SlimAcks]
"""A slot's name and its acknowledgements, without the records if it belongs to another process; an empty list is the
hello of a start."""


class BySlot:
    """Step function that sorts the acknowledgements of chunks by slot; they come in runs of one partition.

    Args:
        own: the slots of this process, if records of other processes come here.
        in_flight: where those are counted.
    """

    def __init__(self, own: Collection[str] = (), in_flight: InFlight | None = None) -> None:
        self._slots: dict[TopicPartition, str] = {}
        self._own = frozenset(own)
        self._in_flight = in_flight

    def __call__(self, batch: list[Keyed]) -> list[SlotItem]:
        """Return the acknowledgements of a batch, one list per slot."""
        came = [ack for _, chunk in batch for ack in chunk.acks]
        if self._in_flight is not None:
            came.sort(key=_by_place)  # they come by shard; the tracker and messages are quicker in order
        found: dict[str, list[Ack]] = {}
        topic, partition = "", -1
        acks: list[Ack] = []
        for ack in came:
            record = ack.record
            if record.partition != partition or record.topic != topic:
                topic, partition = record.topic, record.partition
                acks = found.setdefault(self._slot(topic, partition), [])
            acks.append(ack)
        return list(found.items()) if self._in_flight is None else self._sent_home(found, self._in_flight)

    def _sent_home(self, found: dict[str, list[Ack]], in_flight: InFlight) -> list[SlotItem]:
        """Release the records of other processes."""
        items: list[SlotItem] = []
        for slot, acks in found.items():
            if slot in self._own:
                items.append((slot, acks))
            else:
                items.append((slot, slim(acks)))
                in_flight.send_home([ack.record for ack in acks if ack.credit])
        return items

    def _slot(self, topic: str, partition: int) -> str:
        name = self._slots.get((topic, partition))
        if name is None:
            name = self._slots[(topic, partition)] = slot_of((topic, partition))
        return name


class HelloSource(DynamicSource[tuple[str, T]]):
    """Bytewax source that greets the slots or shards of this process: one without a row is made only by an item."""

    def __init__(self, hellos: Sequence[tuple[str, T]]) -> None:
        self._hellos = hellos

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Hello[T]:
        """Make the part of a Bytewax worker."""
        return _Hello(self._hellos)


class _Hello(StatelessSourcePartition[tuple[str, T]]):
    def __init__(self, hellos: Sequence[tuple[str, T]]) -> None:
        self._hellos = hellos
        self._greeted = False

    def next_batch(self) -> list[tuple[str, T]]:
        if self._greeted:
            raise StopIteration
        self._greeted = True
        return list(self._hellos)


class SlotSink(FixedPartitionedSink[list[Ack] | SlimAcks, bytes]):
    """The only Bytewax output of fixed mode; `away` has the records that other processes work on."""

    def __init__(self, positions: DurablePositions, track: Track, finisher: Finisher, away: Away) -> None:
        self._parts = (positions, track, finisher, away)

    def list_parts(self) -> list[str]:
        """Return the slots of this process; no other process has them, so their items come here."""
        return list(self._parts[0].slots)

    def part_fn(self, item_key: str) -> int:
        """Return the index of a slot among those of all processes."""
        return _NAMES.index(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> _SlotPart:
        """Make the part of a slot, with its row."""
        return _SlotPart(for_part, *self._parts, {} if resume_state is None else decode_rows(resume_state))


class _SlotPart(StatefulSinkPartition[list[Ack] | SlimAcks, bytes]):
    def __init__(
        self,
        slot: str,
        positions: DurablePositions,
        track: Track,
        finisher: Finisher,
        away: Away,
        rows: dict[TopicPartition, PartitionRow],
    ) -> None:
        self._slot = slot
        self._positions = positions
        self._track = track
        self._finisher = finisher
        self._away = away
        self._rows = rows  # those of the start
        self._latest: dict[TopicPartition, PartitionRow] = {}  # those of this run
        self._epochs: dict[TopicPartition, int] = {}
        self._greeted = False
        self.row = encode_rows(rows)
        """The last row that was taken."""

    def write_batch(self, values: list[list[Ack] | SlimAcks]) -> None:
        acks: list[Ack] = []
        for value in values:
            if isinstance(value, bytes):
                acks += self._away.returned(value)
            elif value:
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
            self._track.load(topic_partition, row)

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
        return PartitionRow(offset, finished, now.state, now.shares)
