"""The source's slots: how much they take, from whom, and when they end."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from drakkar_flow.model.record import Record
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.source import RecordSource, shard_key
from drakkar_flow.runtime.stop_signal import StopSignal
from drakkar_flow.testing import MemoryReader


class Kit:
    """A source over a reader in memory."""

    def __init__(
        self,
        values: range,
        *,
        partitions: int = 1,
        topic_partitions: int = 1,
        max_records: int = 10_000,
        room: Any = None,
        drain_s: float = 600.0,
    ) -> None:
        self.in_flight = InFlight(max_records, 1 << 30)
        self.control = StopSignal(drain_s)
        self.reader = MemoryReader(values, self.in_flight, partitions=partitions)
        self.reader.start()
        self.source = RecordSource(self.reader, self.in_flight, self.control, topic_partitions, room)
        self.slot = self.source.build("source", 0, 1)

    def finish(self) -> None:
        """Everything in flight is finished."""
        for topic_partition, count in self.in_flight.statistics().by_partition.items():
            self.in_flight.release((topic_partition, self.reader._buffers.assignments()[topic_partition]), count, 0)


def count(batch: list[Any]) -> int:
    """How many records a batch holds."""
    return sum(len(chunk.items) for _, chunk in batch)


def test_a_slot_takes_a_thousand_records_at_most() -> None:
    """It begins with fewer, for nobody knows yet how large what is made of them will be."""
    kit = Kit(range(4500))
    assert [count(kit.slot.next_batch()) for _ in range(8)] == [100, 200, 400, 800, 1000, 1000, 1000, 0]


def test_a_slot_takes_no_more_than_there_is_room_in_flight() -> None:
    """At the bound it takes nothing, and goes on when something was finished."""
    kit = Kit(range(30), max_records=20)
    assert count(kit.slot.next_batch()) == 20
    assert kit.slot.next_batch() == []
    kit.finish()
    assert count(kit.slot.next_batch()) == 10


class Rooms:
    """An executor's intake that has so much room, one time after the other."""

    def __init__(self, *rooms: int) -> None:
        self._rooms = list(rooms)
        self.taken: list[int] = []

    def room(self) -> int:
        """The next one."""
        return self._rooms.pop(0)

    def take(self, count: int) -> None:
        """Note what was read."""
        self.taken.append(count)


def test_a_slot_takes_no_more_than_the_executor_has_room_for() -> None:
    """The executor's queue bounds the intake too, and is told what was read."""
    rooms = Rooms(3, 0, 0, 100)  # it asks again after a moment's sleep
    kit = Kit(range(10), room=rooms)
    assert [count(kit.slot.next_batch()) for _ in range(3)] == [3, 0, 7]
    assert rooms.taken == [3, 7]


def test_what_is_finished_and_not_committed_still_counts_against_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """While commits fail nothing is read beyond the bound: a crash would repeat it all."""
    kit = Kit(range(30), max_records=20)
    monkeypatch.setattr(MemoryReader, "uncommitted", 15)
    assert count(kit.slot.next_batch()) == 5
    monkeypatch.setattr(MemoryReader, "uncommitted", 99)
    assert kit.slot.next_batch() == []


def test_one_lane_carries_all_partitions_in_one_chunk() -> None:
    """With one worker there is nothing to divide."""
    kit = Kit(range(6), partitions=3)
    ((key, chunk),) = kit.slot.next_batch()
    assert key == "0"
    assert sorted((record.partition, record.offset) for record in chunk.items) == [
        (p, o) for p in range(3) for o in range(2)
    ]


def test_several_lanes_carry_a_partition_each_under_its_key() -> None:
    """All records of a partition travel under one key, always the same."""
    kit = Kit(range(6), partitions=3, topic_partitions=8)
    batch = kit.slot.next_batch()
    assert {chunk.items[0].topic_partition: key for key, chunk in batch} == {
        ("input", number): shard_key(("input", number), 8) for number in range(3)
    }
    assert all(len({record.topic_partition for record in chunk.items}) == 1 for _, chunk in batch)


def test_a_slot_of_several_wakes_the_other_threads_when_what_it_gave_has_reached_them() -> None:
    """They go on with it, and may have gone to sleep before there was anything."""
    kit = Kit(range(3), topic_partitions=8)
    bell = kit.in_flight.engine.bell()
    slot = kit.source.build("source", 0, 2)
    assert count(slot.next_batch()) == 3
    assert not bell.wait(0)
    slot.next_batch()
    assert bell.wait(0)


def test_lane_keys_spread_over_all_lanes() -> None:
    """Many partitions use every shard; topics are told apart."""
    assert {shard_key(("in", n), 8) for n in range(100)} == {str(n) for n in range(8)}
    assert len({shard_key((topic, 1), 64) for topic in "abcdef"}) > 1


def test_slots_of_several_workers_share_the_partitions() -> None:
    """Each partition is served by one slot."""
    kit = Kit(range(8), partitions=4, topic_partitions=8)
    seen = [
        {chunk.items[0].partition for _, chunk in kit.source.build("source", index, 2).next_batch()} for index in (0, 1)
    ]
    assert seen == [{0, 2}, {1, 3}]


def test_a_slot_with_nothing_to_do_sleeps_until_records_come() -> None:
    """The engine calls it again at once, and it wakes with what came; the reader's bell ends the sleep."""
    kit = Kit(range(0))
    assert kit.slot.next_batch() == []
    awake = kit.slot.next_awake()
    assert awake is not None
    assert awake < datetime.now(UTC)
    sleeping = kit.in_flight.engine.bell()
    kit.reader.send(1)
    sleeping.wait(600)
    assert count(kit.slot.next_batch()) == 1


def test_a_ring_that_nobody_hears_ends_the_next_sleep() -> None:
    """What is finished between two looks is not slept through; rings do not add up."""
    bell = InFlight(9, 9).engine.bell()
    bell.ring()
    bell.ring()
    bell.wait(600)
    started = time.monotonic()
    bell.wait(0.05)
    assert time.monotonic() - started >= 0.04


def test_every_engine_thread_has_a_bell_of_its_own() -> None:
    """What one of them takes is not missed by the others."""
    engine = InFlight(9, 9).engine
    bells = [engine.bell(), engine.bell()]
    engine.wake()
    for bell in bells:
        bell.wait(600)


def test_an_exhausted_reader_ends_the_flow_when_everything_is_finished() -> None:
    """Not before: what is in flight is waited for, without a word about a failure."""
    kit = Kit(range(1))
    kit.reader.end()
    kit.slot.next_batch()
    assert kit.slot.next_batch() == []
    assert not bool(kit.control.stopping)
    kit.finish()
    with pytest.raises(StopIteration):
        kit.slot.next_batch()
    assert kit.control.stopping
    assert kit.control.failure is None


def test_a_stopped_slot_reads_nothing_and_ends_when_nothing_is_in_flight() -> None:
    """The drain waits for what is in flight."""
    kit = Kit(range(10), max_records=2)
    kit.slot.next_batch()
    kit.control.stop()
    assert kit.slot.next_batch() == []
    assert kit.in_flight.records == 2
    kit.finish()
    with pytest.raises(StopIteration):
        kit.slot.next_batch()


def test_a_stopped_slot_ends_when_the_budget_is_over() -> None:
    """Whatever is in flight then stays uncommitted."""
    kit = Kit(range(10), drain_s=0.0)
    kit.slot.next_batch()
    kit.control.stop()
    with pytest.raises(StopIteration):
        kit.slot.next_batch()


def test_a_stopped_slot_does_not_wait_for_records_that_are_held() -> None:
    """A record that keeps its credit for good would use up the whole budget."""
    kit = Kit(range(2))
    kit.slot.next_batch()
    kit.control.hold([Record("input", 0, 0, epoch=1)])
    kit.control.fail("held")
    assert kit.slot.next_batch() == []
    kit.control.hold([Record("input", 0, 1, epoch=1)])
    with pytest.raises(StopIteration):
        kit.slot.next_batch()
