"""Buffers: what was read ahead is given out once, in order, or dropped by a revoke."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.model.record import Record
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.group.buffers import Buffers, Partition

A, B = ("in", 0), ("in", 1)


def records(topic_partition: tuple[str, int], *offsets: int, size: int = 1) -> list[Record]:
    """Records of `size` bytes."""
    return [Record(*topic_partition, offset, b"v" * size) for offset in offsets]


@pytest.fixture
def in_flight() -> InFlight:
    """A flight nothing fills."""
    return InFlight(1 << 40, 1 << 40)


@pytest.fixture
def buffers(in_flight: InFlight) -> Buffers:
    """Buffers of 4 records per partition and 100 bytes, two partitions assigned."""
    buffers = Buffers(in_flight, 4, 100)
    buffers.assign([A, B])
    return buffers


def of(buffers: Buffers, topic_partition: tuple[str, int]) -> Partition:
    """The present assignment."""
    partition = buffers.get(topic_partition)
    assert partition is not None
    return partition


def offsets(batches: list[list[Record]]) -> list[list[int]]:
    """The offsets of each batch."""
    return [[record.offset for record in batch] for batch in batches]


def test_records_come_out_in_order_and_are_in_flight_then(buffers: Buffers, in_flight: InFlight) -> None:
    """pop counts what it gives into the flight, by assignment."""
    assert buffers.append(of(buffers, A), records(A, 1, 2, size=3)) == 6
    buffers.append(of(buffers, A), records(A, 3, size=3))
    assert (in_flight.records, in_flight.size) == (0, 0)
    assert offsets(buffers.pop(2, 0, 1)) == [[1, 2]]
    assert (in_flight.records, in_flight.size) == (2, 6)
    assert offsets(buffers.pop(9, 0, 1)) == [[3]]
    assert buffers.pop(9, 0, 1) == []
    assert in_flight.statistics().by_partition == {A: 3}


def test_a_partition_that_was_emptied_is_served_again(buffers: Buffers) -> None:
    """New records after the last was popped stand in the queue again."""
    for offset in range(3):
        buffers.append(of(buffers, A), records(A, offset))
        assert offsets(buffers.pop(9, 0, 1)) == [[offset]]


def test_partitions_take_turns(buffers: Buffers) -> None:
    """A partition that has more goes behind the others."""
    buffers.append(of(buffers, A), records(A, 0, 1, 2))
    buffers.append(of(buffers, B), records(B, 0, 1, 2))
    assert [batch[0].topic_partition for batch in buffers.pop(2, 0, 1)] == [A]
    assert [batch[0].topic_partition for batch in buffers.pop(4, 0, 1)] == [B, A]
    assert offsets(buffers.pop(9, 0, 1)) == []


def test_one_pop_takes_from_as_many_partitions_as_fit(buffers: Buffers) -> None:
    """The limit is over all of them."""
    buffers.append(of(buffers, A), records(A, 0, 1))
    buffers.append(of(buffers, B), records(B, 0, 1))
    assert offsets(buffers.pop(3, 0, 1)) == [[0, 1], [0]]
    assert offsets(buffers.pop(3, 0, 1)) == [[1]]


@pytest.mark.parametrize("known", [True, False], ids=["slots-known", "before-the-first-pop"])
def test_a_partition_belongs_to_one_slot(buffers: Buffers, known: bool) -> None:
    """Also what was buffered before the first pop: two slots on one partition would mix up its order."""
    if known:
        assert buffers.pop(1, 0, 2) == []
    buffers.append(of(buffers, A), records(A, 0, 1))
    buffers.append(of(buffers, B), records(B, 0, 1))
    assert [batch[0].topic_partition for batch in buffers.pop(1, 0, 2)] == [A]
    assert [batch[0].topic_partition for batch in buffers.pop(9, 0, 2)] == [A]
    buffers.append(of(buffers, B), records(B, 2))
    assert offsets(buffers.pop(9, 1, 2)) == [[0, 1, 2]]
    assert buffers.pop(9, 0, 2) == []


def test_a_revoke_drops_what_is_buffered_and_names_the_assignments(buffers: Buffers, in_flight: InFlight) -> None:
    """Nothing more is given out or taken in for them; unknown partitions are left out."""
    partition = of(buffers, A)
    epoch = partition.epoch
    buffers.append(partition, records(A, 0, 1, size=40))
    buffers.append(of(buffers, B), records(B, 0))
    assert [gone.assignment for gone in buffers.take_away([A, ("other", 0)])] == [(A, epoch)]
    assert buffers.append(partition, records(A, 2)) == 0
    assert [batch[0].topic_partition for batch in buffers.pop(9, 0, 1)] == [B]
    assert (buffers.get(A), len(buffers), in_flight.records) == (None, 1, 1)
    assert buffers.take_away([A]) == []


def test_each_assignment_has_an_epoch_of_its_own(buffers: Buffers) -> None:
    """A partition that comes back has a higher epoch than any before, and an empty buffer."""
    before = buffers.assignments()
    buffers.append(of(buffers, A), records(A, 0))
    buffers.take_away([A])
    buffers.assign([A])
    assert of(buffers, A).epoch > max(before.values())
    assert buffers.assignments() == {A: of(buffers, A).epoch, B: before[B]}
    assert len(set(before.values())) == 2
    assert buffers.pop(9, 0, 1) == []
    assert {partition.topic_partition for partition in buffers.partitions()} == {A, B}


def test_a_rewind_drops_the_buffer_and_fences_what_is_in_flight(buffers: Buffers, in_flight: InFlight) -> None:
    """What follows is a new assignment whose first record has none before it."""
    partition = of(buffers, A)
    old = partition.epoch
    first, second = (Record(*A, offset, b"v", epoch=old) for offset in (7, 8))
    buffers.append(partition, [first, second])
    buffers.pop(1, 0, 1)
    partition.last_offset = 8
    buffers.rewind(partition)
    assert in_flight.is_fenced(first)
    assert (partition.last_offset, len(partition.buffer), partition.size) == (-1, 0, 0)
    assert partition.epoch > max(old, of(buffers, B).epoch)
    buffers.append(partition, records(A, 0))
    assert offsets(buffers.pop(9, 0, 1)) == [[0]]


def test_a_partition_is_over_at_its_bound_until_it_was_popped_below(buffers: Buffers) -> None:
    """The bound is a mark: what was read is kept."""
    partition = of(buffers, A)
    buffers.append(partition, records(A, 0, 1, 2))
    assert buffers.over() == []
    buffers.append(partition, records(A, 3, 4))
    assert buffers.over() == [partition]
    buffers.pop(1, 0, 1)
    assert buffers.over() == [partition]
    buffers.pop(1, 0, 1)
    assert buffers.over() == []


def test_all_partitions_are_over_when_the_bytes_are_used_up(buffers: Buffers) -> None:
    """Bytes are bounded over all partitions together."""
    buffers.append(of(buffers, A), records(A, 0, size=99))
    assert buffers.over() == []
    buffers.append(of(buffers, B), records(B, 0, size=1))
    assert set(buffers.over()) == {of(buffers, A), of(buffers, B)}
    buffers.take_away([A])
    assert buffers.over() == []


def test_d29_a_partition_that_comes_while_there_is_no_room_has_none_either(buffers: Buffers) -> None:
    """It is to be paused like those that were there before it."""
    buffers.append(of(buffers, A), records(A, 0, size=100))
    buffers.assign([("in", 9)])
    assert of(buffers, ("in", 9)) in buffers.over()
    assert not buffers.has_room(of(buffers, ("in", 9)))


def test_a_revoked_partition_is_no_longer_over(buffers: Buffers) -> None:
    """Nobody can pause what is gone."""
    buffers.append(of(buffers, A), records(A, 0, 1, 2, 3))
    assert buffers.over()
    buffers.take_away([A])
    assert buffers.over() == []


@pytest.mark.parametrize(("own", "others", "room"), [(2, 0, True), (3, 0, False), (1, 49, True), (1, 50, False)])
def test_a_paused_partition_has_room_again_at_half_of_both_bounds(
    buffers: Buffers, own: int, others: int, room: bool
) -> None:
    """2 of 4 records and 50 of 100 bytes."""
    buffers.append(of(buffers, A), records(A, *range(own)))
    buffers.append(of(buffers, B), records(B, 0, size=others) if others else [])
    assert buffers.has_room(of(buffers, A)) is room


class BuffersMachine(RuleBasedStateMachine):
    """Any interleaving of reading, popping, finishing, revoking: each record ends exactly once."""

    LANES = [("in", n) for n in range(3)]

    def __init__(self) -> None:
        super().__init__()
        self.in_flight = InFlight(1 << 40, 1 << 40)
        self.buffers = Buffers(self.in_flight, 5, 60)
        self.next_offset = 0
        self.waiting: dict[tuple[str, int], list[int]] = {}
        self.flying: list[tuple[tuple[tuple[str, int], int], Record]] = []
        self.given: set[int] = set()
        self.dropped: set[int] = set()
        self.slots = 1

    def drop(self, topic_partition: tuple[str, int]) -> None:
        """What waited in a partition is gone."""
        self.dropped.update(self.waiting.pop(topic_partition, []))

    @rule(topic_partition=st.sampled_from(LANES))
    def assign(self, topic_partition: tuple[str, int]) -> None:
        """A partition is assigned, unless it is."""
        if topic_partition not in self.waiting:
            self.buffers.assign([topic_partition])
            self.waiting[topic_partition] = []

    @rule(topic_partition=st.sampled_from(LANES), count=st.integers(1, 4), size=st.integers(0, 9))
    def read(self, topic_partition: tuple[str, int], count: int, size: int) -> None:
        """Records of a partition arrive."""
        partition = self.buffers.get(topic_partition)
        assert (partition is None) == (topic_partition not in self.waiting)
        if partition is None:
            return
        made = [
            Record(*topic_partition, self.next_offset + i, b"v" * size, epoch=partition.epoch) for i in range(count)
        ]
        self.next_offset += count
        assert self.buffers.append(partition, made) == count * size
        self.waiting[topic_partition] += [record.offset for record in made]

    @rule(slots=st.integers(1, 3))
    def change_slots(self, slots: int) -> None:
        """Another number of slots asks from now on."""
        self.slots = slots

    @rule(limit=st.integers(0, 6), slot=st.integers(0, 2))
    def pop(self, limit: int, slot: int) -> None:
        """A slot takes some."""
        batches = self.buffers.pop(limit, slot % self.slots, self.slots)
        assert sum(map(len, batches)) <= limit
        for batch in batches:
            topic_partition = batch[0].topic_partition
            assert topic_partition[1] % self.slots == slot % self.slots
            expected = [self.waiting[topic_partition].pop(0) for _ in batch]
            assert [record.offset for record in batch] == expected
            assert self.given.isdisjoint(expected)
            self.given.update(expected)
            self.flying += [((topic_partition, record.epoch), record) for record in batch]

    @precondition(lambda self: self.flying)
    @rule(index=st.integers(0, 99))
    def finish(self, index: int) -> None:
        """A record in flight is finished."""
        assignment, record = self.flying.pop(index % len(self.flying))
        self.in_flight.release(assignment, 1, record.size)

    @rule(topic_partition=st.sampled_from(LANES))
    def take_away(self, topic_partition: tuple[str, int]) -> None:
        """A partition is revoked."""
        taken = [partition.assignment for partition in self.buffers.take_away([topic_partition])]
        assert bool(taken) == (topic_partition in self.waiting)
        self.in_flight.fence(taken)
        self.drop(topic_partition)
        for assignment, record in self.flying:
            if assignment in taken:
                assert self.in_flight.is_fenced(record)

    @rule(topic_partition=st.sampled_from(LANES))
    def rewind(self, topic_partition: tuple[str, int]) -> None:
        """The log of a partition went back."""
        partition = self.buffers.get(topic_partition)
        if partition is not None:
            self.buffers.rewind(partition)
            self.drop(topic_partition)
            self.waiting[topic_partition] = []

    @invariant()
    def counts_add_up(self) -> None:
        """Flight and buffers know exactly what is there."""
        assert self.in_flight.records == len(self.flying)
        assert self.in_flight.size == sum(record.size for _, record in self.flying)
        by_partition = self.in_flight.statistics().by_partition
        assert sum(by_partition.values()) == len(self.flying)
        assert {p.topic_partition: [r.offset for r in p.buffer] for p in self.buffers.partitions()} == self.waiting
        assert all(p.size == sum(r.size for r in p.buffer) for p in self.buffers.partitions())
        assert self.given.isdisjoint(self.dropped)
        assert len(self.given) + len(self.dropped) + sum(map(len, self.waiting.values())) == self.next_offset

    @invariant()
    def marks_are_right(self) -> None:
        """over and has_room follow from what is buffered."""
        partitions = self.buffers.partitions()
        size = sum(p.size for p in partitions)
        over = set(partitions) if size >= 60 else {p for p in partitions if len(p.buffer) >= 5}
        assert set(self.buffers.over()) == over
        assert all(self.buffers.has_room(p) == (len(p.buffer) * 2 <= 5 and size * 2 <= 60) for p in partitions)

    def teardown(self) -> None:
        """In the end everything that waits can be popped."""
        rest = [
            record.offset
            for slot in range(self.slots)
            for batch in self.buffers.pop(1 << 30, slot, self.slots)
            for record in batch
        ]
        assert sorted(rest) == sorted(offset for waiting in self.waiting.values() for offset in waiting)


TestBuffersAndFlight = BuffersMachine.TestCase
TestBuffersAndFlight.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_partition_whose_finished_records_lie_scattered_has_to_wait(buffers: Buffers) -> None:
    """A commit could not tell of more of them; the other partitions go on, and it goes on when there are fewer."""
    for topic_partition in (A, B):
        buffers.append(of(buffers, topic_partition), records(topic_partition, 0, 1, size=1))
    assignment = of(buffers, A).assignment
    buffers.out_of_order_ranges({assignment: 550, (B, of(buffers, B).epoch - 1): 550})
    assert [[record.topic_partition for record in batch] for batch in buffers.pop(9, 0, 1)] == [[B, B]]
    assert buffers.pop(9, 0, 1) == []
    buffers.out_of_order_ranges({assignment: 549})
    assert [[record.topic_partition for record in batch] for batch in buffers.pop(9, 0, 1)] == [[A, A]]


def test_none_has_to_wait_where_a_store_holds_all_ranges(in_flight: InFlight) -> None:
    """Records that travel to other processes finish far out of order."""
    buffers = Buffers(in_flight, 4, 100, inf)
    buffers.assign([A])
    buffers.append(of(buffers, A), records(A, 0, 1, size=1))
    buffers.out_of_order_ranges({of(buffers, A).assignment: 5000})
    assert [[record.topic_partition for record in batch] for batch in buffers.pop(9, 0, 1)] == [[A, A]]


@pytest.mark.parametrize(
    ("last", "read", "end", "position", "reached"),
    [
        (4, 4, -1, 5, 5),  # the end is not known
        (4, 5, 6, 5, 6),  # a marker follows
        (4, 5, 6, 4, 4),  # the record before it is not finished
        (-1, 6, 7, 0, 7),  # nothing but markers
        (6, 6, 6, 5, 5),  # a record came after the end was seen
    ],
)
def test_markers_at_the_end_are_reached_when_all_before_is_finished(
    last: int, read: int, end: int, position: int, reached: int
) -> None:
    """The lag ends there; a commit does not in fixed mode."""
    partition = Partition(A, 1, 0, OffsetRanges())
    partition.last_offset, partition.read_offset, partition.end = last, read, end
    assert partition.reached(position) == reached
