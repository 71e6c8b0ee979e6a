"""The flight: counts, bounds, fences, and who waits for it to become empty."""

from __future__ import annotations

import threading
import time
from copy import copy

import pytest

from drakkar_flow.model.outcome import Ack
from drakkar_flow.model.record import FULL_CREDIT, Record
from drakkar_flow.runtime.acknowledgement.credit import split
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.acknowledgement.tracker import Tracker
from support.until import until

A, B = ("in", 0), ("in", 1)


def records(
    *offsets: int, topic_partition: tuple[str, int] = A, epoch: int = 1, size: int = 10, read_at: float = 0.0
) -> list[Record]:
    """Records of `size` bytes."""
    return [Record(*topic_partition, offset, b"v" * size, epoch=epoch, read_at=read_at) for offset in offsets]


def test_records_and_bytes_are_counted_in_and_out() -> None:
    """add gives the bytes of keys and values; release takes records and bytes away."""
    in_flight = InFlight(10, 1000)
    assert in_flight.add((A, 1), [Record(*A, 0, b"abc", b"k"), Record(*A, 1, b"de")]) == 6
    assert (in_flight.records, in_flight.size) == (2, 6)
    in_flight.release((A, 1), 1, 4)
    assert (in_flight.records, in_flight.size) == (1, 2)
    in_flight.release((A, 1), 1, 2)
    assert in_flight.statistics()[:5] == (0, 0, {}, 0.0, {})


@pytest.mark.parametrize(
    ("count", "size", "room"),
    [(9, 0, 1), (10, 0, 0), (11, 0, 0), (1, 20, 5), (1, 99, 1), (1, 100, 0)],
)
def test_it_is_full_by_records_or_by_bytes(count: int, size: int, room: int) -> None:
    """At a bound there is no room, and below it for as many as fit if they are as large as those before."""
    in_flight = InFlight(10, 100)
    in_flight.add((A, 1), records(*range(count), size=size))
    assert in_flight.room == room


def test_statistics_add_up_a_lane_over_its_epochs() -> None:
    """What is left of an older assignment counts with the present one."""
    in_flight = InFlight(10, 1000)
    in_flight.add((A, 1), records(0, 1))
    in_flight.add((A, 2), records(0, epoch=2))
    in_flight.add((B, 1), records(5, topic_partition=B))
    assert in_flight.statistics().by_partition == {A: 3, B: 1}


def test_the_oldest_age_is_that_of_the_first_unfinished_batch() -> None:
    """A batch ages from its reading until everything in it is finished."""
    now = time.monotonic()
    in_flight = InFlight(10, 1000)
    in_flight.add((A, 1), records(0, 1, read_at=now - 100))
    in_flight.add((A, 1), records(2, read_at=now - 50))
    in_flight.advance((A, 1), 1)
    assert 100 <= in_flight.statistics().oldest_s < 200
    in_flight.advance((A, 1), 2)
    assert 50 <= in_flight.statistics().oldest_s < 100
    in_flight.advance((A, 1), 3)
    assert in_flight.statistics().oldest_s == 0.0


def test_the_oldest_offset_of_a_lane_is_the_first_that_is_not_finished() -> None:
    """It moves inside a batch with the watermark, and keeps the time its batch was read."""
    in_flight = InFlight(10, 1000)
    in_flight.add((A, 1), records(5, 6, 9, read_at=100.0))
    in_flight.add((A, 1), records(12, read_at=200.0))
    assert in_flight.statistics().oldest == {A: (5, 100.0)}
    in_flight.advance((A, 1), 7)
    assert in_flight.statistics().oldest == {A: (7, 100.0)}
    in_flight.advance((A, 1), 10)
    assert in_flight.statistics().oldest == {A: (12, 200.0)}


def test_when_a_lane_last_finished_a_record_is_known_until_it_is_taken_away() -> None:
    """It outlives the last record in flight, and what finishes behind a fence does not bring it back."""
    in_flight = InFlight(10, 1000)
    in_flight.add((A, 1), records(0, 1, 2))
    assert in_flight.statistics().finished_at == {}
    before = time.monotonic()
    in_flight.release((A, 1), 2, 20)
    assert before <= in_flight.statistics().finished_at[A] <= time.monotonic()
    in_flight.fence([(A, 1)])
    in_flight.release((A, 1), 1, 10)
    assert in_flight.statistics().finished_at == {}


def test_the_age_of_an_assignment_ends_with_its_last_record() -> None:
    """Nothing is remembered of an assignment that has nothing in flight."""
    in_flight = InFlight(10, 1000)
    in_flight.add((A, 1), records(0, 1, read_at=time.monotonic() - 100))
    in_flight.release((A, 1), 2, 20)
    assert in_flight.statistics().oldest_s == 0.0


def test_advancing_what_is_not_in_flight_does_nothing() -> None:
    """A late watermark is harmless."""
    in_flight = InFlight(10, 1000)
    in_flight.advance((A, 1), 5)
    assert in_flight.records == 0


def test_fences_hold_while_their_assignment_is_in_flight() -> None:
    """Only records of that partition and epoch are fenced, and the fence goes with the last of them."""
    in_flight = InFlight(10, 1000)
    in_flight.add((A, 1), records(0, 1))
    in_flight.add((A, 2), records(0, epoch=2))
    assert not bool(in_flight.has_fences)
    in_flight.fence([(A, 1)])
    assert in_flight.has_fences
    assert in_flight.is_fenced(records(0)[0])
    assert not in_flight.is_fenced(records(0, epoch=2)[0])
    assert not in_flight.is_fenced(records(0, topic_partition=B)[0])
    in_flight.release((A, 1), 1, 10)
    assert in_flight.has_fences
    in_flight.release((A, 1), 1, 10)
    assert not in_flight.has_fences


def test_nothing_is_fenced_that_is_not_in_flight() -> None:
    """A fence without records would never go away."""
    in_flight = InFlight(10, 1000)
    in_flight.fence([(A, 1)])
    assert not in_flight.has_fences


def test_waiting_ends_when_the_assignments_are_empty() -> None:
    """wait_idle looks at its own assignments only and returns 0 as soon as they are empty."""
    in_flight = InFlight(10, 1000)
    in_flight.add((A, 1), records(0))
    in_flight.add((B, 1), records(0, topic_partition=B))
    left: list[int] = []
    waiting = threading.Thread(target=lambda: left.append(in_flight.wait_idle([(A, 1)], 600.0)), daemon=True)
    waiting.start()
    until(lambda: in_flight._changed._waiters, what="the thread to wait")  # type: ignore[attr-defined]  # CPython has it
    in_flight.release((A, 1), 1, 10)
    waiting.join(20)
    assert left == [0]
    assert in_flight.wait_idle([(A, 1), (A, 2)], 0.0) == 0


def test_waiting_gives_up_after_its_time_and_says_what_is_left() -> None:
    """The number of records still in flight, over all assignments asked for."""
    in_flight = InFlight(10, 1000)
    in_flight.add((A, 1), records(0, 1))
    in_flight.add((B, 1), records(0, topic_partition=B))
    assert in_flight.wait_idle([(A, 1), (B, 1)], 0.01) == 3
    assert in_flight.wait_idle([(B, 1)], 0.0) == 1


def test_what_was_made_of_a_record_counts_until_the_record_is_finished() -> None:
    """Whatever share of the record it was made of; small change is nothing that a tracker could get wrong."""
    in_flight, tracker = InFlight(10, 1000), Tracker()
    (record,) = records(0)
    in_flight.add((A, 1), [record])
    record.held = [0]
    share = copy(record)
    record.credit, share.credit = split(FULL_CREDIT, 2)
    in_flight.charge(record, 400)
    in_flight.charge(share, 500)
    assert in_flight.size == 910
    first = tracker.settle([Ack(share, share.credit)])
    assert first.finished == {}
    last = tracker.settle([Ack(record, record.credit)])
    assert last.finished == {(A, 1): (1, 910)}
    in_flight.release((A, 1), *last.finished[A, 1])
    assert (in_flight.records, in_flight.size) == (0, 0)


def test_room_is_given_for_records_that_become_as_large_as_those_before() -> None:
    """Ten bytes became a hundred: nine more records fill a budget of 1,000 up."""
    in_flight = InFlight(1000, 1000)
    in_flight.add((A, 1), records(0, 1))
    in_flight.release((A, 1), 1, 100)
    in_flight.size = 100
    assert in_flight.room == 10
