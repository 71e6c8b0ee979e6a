"""The end of the dataflow in fixed mode: acknowledgements become rows, and rows on disk become commits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.kernel.partition_row import decode_rows
from drakkar_flow.kernel.recovery_start import Log, Start, StartPolicy, decide_start
from drakkar_flow.kernel.slots import slot_of, slots_of_process
from drakkar_flow.model.outcome import Ack
from drakkar_flow.model.record import Record, TopicPartition, Watermark
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.acknowledgement.commit import Finisher, Track
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.across.home import Away
from drakkar_flow.runtime.chunk import Chunk
from drakkar_flow.runtime.recovery.positions import DurablePositions
from drakkar_flow.runtime.recovery.slots import BySlot, HelloSource, SlotSink

PARTITION = ("in", 0)
_WHOLE = Log(0, 1 << 40)


class Committed:
    """A reader that keeps what is committed."""

    def __init__(self) -> None:
        self.watermarks: dict[TopicPartition, int] = {}
        self.ranges: dict[tuple[TopicPartition, int], int] = {}

    def commit(self, watermarks: list[Watermark]) -> None:
        self.watermarks |= {each.topic_partition: each.offset for each in watermarks}

    def out_of_order_ranges(self, ranges: Mapping[tuple[TopicPartition, int], int]) -> None:
        self.ranges |= ranges


class Slots:
    """The sink of all slots, as Bytewax calls it."""

    def __init__(self) -> None:
        self.positions = DurablePositions(slots_of_process(0, 1))
        self.in_flight = InFlight(10_000, 1 << 30)
        self.reader: Any = Committed()
        self._sort = BySlot()
        finisher = Finisher(self.in_flight, Bus(), lambda _settled: None)
        self._sink = SlotSink(self.positions, Track(), finisher, Away())
        self._parts: dict[str, Any] = {}

    def greet(self, rows: Mapping[str, bytes] = {}, log: Log = _WHOLE) -> Start:
        """Decide the start, make the parts that have rows, then greet all; returns the partition's start."""
        row = decode_rows(rows[slot_of(PARTITION)])[PARTITION] if rows else None
        start = decide_start(PARTITION, row, None, log, StartPolicy(has_state=False, first_start=row is None))
        assert isinstance(start, Start)
        self.positions.begin({PARTITION: start})
        self._parts = {name: self._sink.build_part("track", name, row) for name, row in rows.items()}
        hellos: list[tuple[str, list[Ack]]] = [(name, []) for name in self.positions.slots]
        for name, value in HelloSource(hellos).build("hello", 0, 1).next_batch():
            self._part(name).write_batch([value])
        return start

    def read(self, offsets: list[int], *, epoch: int = 1, previous: int = -1) -> dict[int, Record]:
        """Records that were read in this order."""
        records = {}
        for offset in offsets:
            records[offset] = Record(*PARTITION, offset, epoch=epoch, previous=previous)
            previous = offset
        if records:
            self.in_flight.add((PARTITION, epoch), list(records.values()))
        return records

    def acknowledge(self, *records: Record) -> None:
        """Return all their credit."""
        chunk: Chunk[Any] = Chunk(acks=[Ack(record, record.credit) for record in records])
        for name, acks in self._sort([("0", chunk)]):
            self._part(name).write_batch([acks])

    def snapshot(self) -> dict[str, bytes]:
        """The rows of one epoch's end."""
        return {name: part.snapshot() for name, part in self._parts.items()}

    def _part(self, name: str) -> Any:
        if name not in self._parts:
            self._parts[name] = self._sink.build_part("track", name, None)
        return self._parts[name]


def finished_in(rows: Mapping[str, bytes]) -> tuple[int, list[tuple[int, int]]]:
    """The position of the partition, and the offsets finished beyond it."""
    row = decode_rows(rows[slot_of(PARTITION)])[PARTITION]
    return row.offset, list(row.finished)


def test_nothing_is_committed_before_its_row_is_on_disk() -> None:
    """A row is on disk when the source is polled again after it was taken."""
    slots = Slots()
    slots.greet()
    records = slots.read([0, 1, 2, 3])
    slots.acknowledge(records[0], records[1], records[3])
    slots.positions.durable(slots.reader)
    assert slots.reader.watermarks == {}
    slots.snapshot()
    assert slots.reader.watermarks == {}
    slots.positions.durable(slots.reader)
    assert slots.reader.watermarks == {PARTITION: 2}
    assert list(slots.positions.out_of_order(PARTITION, 1)) == [(3, 4)]
    slots.acknowledge(records[2])
    assert list(slots.positions.out_of_order(PARTITION, 1)) == [(3, 4)]
    assert slots.in_flight.records == 0


def test_reading_begins_when_every_slot_has_its_row() -> None:
    """Each partition has a row from then on, also one without records."""
    first = Slots()
    assert first.positions.starts(0) is None
    start = first.greet()
    assert first.positions.starts(0) == {PARTITION: start}
    assert finished_in(first.snapshot()) == (0, [])
    records = first.read([5, 6, 9])
    first.acknowledge(records[9])
    assert list(Slots().greet(first.snapshot()).finished) == [(7, 10)]


def test_a_row_that_is_not_used_is_replaced_by_the_start() -> None:
    """For example that of a topic that was created again."""
    first = Slots()
    first.greet()
    first.acknowledge(*first.read([0, 1, 2]).values())
    second = Slots()
    second.greet(first.snapshot(), log=Log(1, 9, same_topic=False))
    assert finished_in(second.snapshot()) == (1, [])


@given(st.data(), st.lists(st.integers(1, 3), min_size=1, max_size=40))
def test_a_row_has_exactly_what_was_finished_in_all_runs(data: st.DataObject, gaps: list[int]) -> None:
    """Whatever the order, and at whatever moment a run is killed."""
    offsets = [sum(gaps[: index + 1]) for index in range(len(gaps))]
    finished: set[int] = set()
    stored: dict[str, bytes] = {}
    for _ in range(3):
        slots = Slots()
        known = slots.greet(stored)
        left = [offset for offset in offsets if offset >= known.offset and offset not in known.finished]
        records = slots.read(left, previous=max((each for each in offsets if each < known.offset), default=-1))
        done = data.draw(st.lists(st.sampled_from(left), unique=True) if left else st.just([]))
        durable = data.draw(st.integers(0, len(done)))
        for offset in done[:durable]:
            slots.acknowledge(records[offset])
        stored = slots.snapshot()
        slots.acknowledge(*[records[offset] for offset in done[durable:]])  # and then it is killed
        finished |= set(done[:durable])
        if finished:
            position, beyond = finished_in(stored)
            in_row = {each for each in offsets if each < position or each in OffsetRanges(beyond)}
            assert in_row == finished


def test_a_log_that_was_rewound_has_no_finished_offsets_of_before() -> None:
    """They were those of another log."""
    first = Slots()
    first.greet()
    records = first.read(list(range(10)))
    first.acknowledge(*records.values())
    stored = first.snapshot()
    assert finished_in(stored) == (10, [])
    second = Slots()
    second.greet(stored)
    known = second.read([10], previous=9)
    second.acknowledge(known[10])
    assert finished_in(second.snapshot()) == (11, [])
    again = second.read([0, 1], epoch=2)
    second.acknowledge(again[0])
    assert finished_in(second.snapshot()) == (1, [])


@pytest.mark.parametrize("partition", [0, 1, 63, 64, 1000])
def test_a_partition_has_the_same_slot_for_ever(partition: int) -> None:
    """The slots go round, so that the partitions of a topic are spread."""
    first = int(slot_of(("in", 0)).removeprefix("slot-"))
    assert slot_of(("in", partition)) == f"slot-{(first + partition) % 64:02}"
