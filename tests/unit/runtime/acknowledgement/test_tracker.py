"""What may be committed, case by case; `test_tracker_machine.py` goes through the rest at random."""

from __future__ import annotations

import itertools
import pickle
from fractions import Fraction

import pytest

from drakkar_flow.model.outcome import Ack, AckStatus
from drakkar_flow.model.record import FULL_CREDIT, Credit, Record, Watermark
from drakkar_flow.runtime.acknowledgement.credit import InvariantError, split
from drakkar_flow.runtime.acknowledgement.tracker import SettleResult, Tracker, TrackerStatistics

LANE = ("in", 0)


def chain(*offsets: int, epoch: int = 0, partition: int = 0) -> dict[int, Record]:
    """The records of one assignment, delivered in the order of `offsets`."""
    pairs = itertools.pairwise([-1, *offsets])
    return {
        offset: Record("in", partition, offset, value=b"abc", epoch=epoch, previous=previous)
        for previous, offset in pairs
    }


def whole(*records: Record, status: AckStatus = AckStatus.DONE) -> list[Ack]:
    """The acknowledgements of records that were not divided."""
    return [Ack(record, record.credit, status) for record in records]


FATES = (AckStatus.DONE, AckStatus.SKIPPED, AckStatus.DEAD)


def told(settled: SettleResult) -> tuple[list[Watermark], int, int, int, int]:
    """What a settling told: watermarks, counts by status, bytes."""
    size = sum(size for _, size in settled.finished.values())
    assert sum(count for count, _ in settled.finished.values()) == settled.done + settled.skipped + settled.dead
    return settled.watermarks, settled.done, settled.skipped, settled.dead, size


def watermarks(settled: SettleResult) -> list[int]:
    """The offsets that a batch made committable."""
    return [mark.offset for mark in settled.watermarks]


def test_d1_offsets_wait_for_those_before_them() -> None:
    """D-1: of 100..104 only 104 done: nothing to commit; after 100 and 101: 102; after all: 105."""
    records = chain(*range(100, 105))
    tracker = Tracker()

    assert watermarks(tracker.settle(whole(records[104]))) == []
    assert tracker.position(LANE) is None
    assert watermarks(tracker.settle(whole(records[100], records[101]))) == [102]
    assert watermarks(tracker.settle(whole(records[103], records[102]))) == [105]


def test_d2_one_pending_offset_holds_those_after_it() -> None:
    """D-2: 10, 11, 12, 14 done and 13 pending: 13; then 13 done: 15."""
    records = chain(*range(10, 15))
    tracker = Tracker()

    tracker.settle(whole(records[10], records[11], records[12], records[14]))

    assert tracker.position(LANE) == 13
    assert list(tracker.out_of_order(LANE, 0)) == [(14, 15)]
    assert watermarks(tracker.settle(whole(records[13]))) == [15]
    assert list(tracker.out_of_order(LANE, 0)) == []


def test_d3_repeated_and_unknown_offsets_have_no_effect() -> None:
    """D-3: an offset counts once however often it is acknowledged; an unknown partition is no error."""
    records = chain(5, 6, 7)
    tracker = Tracker()
    tracker.settle(whole(records[5], records[7]))

    again = tracker.settle(whole(records[5], records[7], records[7], status=AckStatus.DEAD))

    assert told(again) == ([], 0, 0, 0, 0)
    assert tracker.position(LANE) == 6
    assert tracker.statistics() == TrackerStatistics(topic_partitions=1, partial=0, out_of_order=1)
    assert tracker.position(("unknown", 0)) is None
    assert list(tracker.out_of_order(("unknown", 0), 0)) == []


def test_d4_only_what_is_unfinished_remains_after_a_commit() -> None:
    """D-4: 100 and 101 of 100..102 done: 102, and nothing of them is kept; then 102 done: 103."""
    records = chain(100, 101, 102)
    tracker = Tracker()

    assert watermarks(tracker.settle(whole(records[100], records[101]))) == [102]
    assert watermarks(tracker.settle([])) == []
    assert tracker.statistics() == TrackerStatistics(topic_partitions=1, partial=0, out_of_order=0)
    assert watermarks(tracker.settle(whole(records[102]))) == [103]


def test_d6_a_later_window_that_finishes_first_commits_nothing_of_the_earlier() -> None:
    """D-6: of two overlapping windows the second finishes first: the watermark stays before the first."""
    records = chain(*range(20, 30))
    first, second = [records[n] for n in range(20, 25)], [records[n] for n in range(25, 30)]
    tracker = Tracker()

    assert watermarks(tracker.settle(whole(*second))) == []
    assert list(tracker.out_of_order(LANE, 0)) == [(25, 30)]
    assert watermarks(tracker.settle(whole(*first[1:]))) == []
    assert watermarks(tracker.settle(whole(first[0]))) == [30]


def test_gaps_and_large_offsets_are_legal() -> None:
    """The watermark follows what was delivered: 5, 9, 2^31 + 20; it never counts in steps of one."""
    records = chain(5, 9, 2**31 + 20)
    tracker = Tracker()

    assert watermarks(tracker.settle(whole(records[9], records[5]))) == [10]
    assert watermarks(tracker.settle(whole(records[2**31 + 20]))) == [2**31 + 21]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_a_record_is_finished_when_all_its_credit_came_back(order: tuple[int, ...]) -> None:
    """Three shares of four commit nothing, in whatever order they return; the fourth does."""
    record = chain(7)[7]
    shares = [*split(FULL_CREDIT - 1, 2), Fraction(1, 3), Fraction(2, 3)]
    acks = [Ack(record, shares[n]) for n in order]
    tracker = Tracker()

    assert told(tracker.settle(acks[:3])) == ([], 0, 0, 0, 0)
    assert tracker.statistics() == TrackerStatistics(topic_partitions=1, partial=1, out_of_order=0)
    assert told(tracker.settle(acks[3:])) == ([Watermark(LANE, 0, 8)], 1, 0, 0, 3)
    assert tracker.statistics() == TrackerStatistics(topic_partitions=1, partial=0, out_of_order=0)


@pytest.mark.parametrize("statuses", list(itertools.permutations(FATES)))
def test_the_worst_status_wins(statuses: tuple[AckStatus, ...]) -> None:
    """A record with a dead branch is dead, whichever branch ends first; without one it is skipped."""
    dead, skipped = chain(1, 2).values()
    tracker = Tracker()

    shares = split(FULL_CREDIT, 3)
    settled = tracker.settle([Ack(dead, credit, status) for credit, status in zip(shares, statuses, strict=True)])
    assert (settled.done, settled.skipped, settled.dead) == (0, 0, 1)

    harmless = [status for status in statuses if status is not AckStatus.DEAD]
    shares = split(FULL_CREDIT, 2)
    settled = tracker.settle([Ack(skipped, credit, status) for credit, status in zip(shares, harmless, strict=True)])
    assert (settled.done, settled.skipped, settled.dead) == (0, 1, 0)


def test_counts_and_sizes_are_of_the_records_that_finished() -> None:
    """Each finished record counts once, by its status, with the bytes of key and value."""
    records = chain(1, 2, 3, 4)
    records[2].key = b"key"
    tracker = Tracker()

    settled = tracker.settle(
        [
            *whole(records[1]),
            *whole(records[2], status=AckStatus.SKIPPED),
            *whole(records[4], status=AckStatus.DEAD),
            Ack(records[3], 1),
        ]
    )

    assert told(settled) == ([Watermark(LANE, 0, 3)], 1, 1, 1, 12)


def test_each_lane_advances_by_itself_and_is_told_once() -> None:
    """Lanes in turns have one watermark each, and a partition that did not advance has none."""
    ours, theirs, waiting = chain(1, 2), chain(8, 9, partition=1), chain(4, 5, partition=2)
    tracker = Tracker()

    settled = tracker.settle(whole(ours[1], theirs[8], waiting[5], ours[2], theirs[9]))

    assert settled.watermarks == [Watermark(("in", 0), 0, 3), Watermark(("in", 1), 0, 10)]


def test_an_older_epoch_counts_but_moves_no_watermark() -> None:
    """After a newer assignment was seen, the older one frees memory and nothing else."""
    older, newer = chain(10, 11), chain(10, 11, epoch=1)
    tracker = Tracker()
    tracker.settle([*whole(older[11]), Ack(older[10], 1)])

    assert tracker.settle(whole(newer[10])).watermarks == [Watermark(LANE, 1, 11)]
    assert told(tracker.settle([Ack(older[10], FULL_CREDIT - 1)])) == ([], 1, 0, 0, 3)
    assert told(tracker.settle(whole(older[10], older[11]))) == ([], 0, 0, 0, 0)
    assert tracker.position(LANE) == 11
    assert tracker.statistics() == TrackerStatistics(topic_partitions=1, partial=0, out_of_order=0)


def test_both_epochs_in_one_batch_tell_the_newer_watermark_only() -> None:
    """A batch across a new assignment reports nothing for the assignment that ended in it."""
    tracker = Tracker()

    settled = tracker.settle(whole(chain(10)[10], chain(3, epoch=1)[3], chain(10, 11)[11]))

    assert settled.watermarks == [Watermark(LANE, 1, 4)]
    assert settled.done == 3


def test_a_new_epoch_may_start_lower() -> None:
    """Offsets reset from outside: the next assignment starts anywhere, the watermark with it."""
    tracker = Tracker()
    tracker.settle(whole(chain(2**40)[2**40]))

    assert tracker.settle(whole(chain(0, epoch=1)[0])).watermarks == [Watermark(LANE, 1, 1)]


@pytest.mark.parametrize("last", [FULL_CREDIT, 2, Fraction(3, 2), 0, -1])
def test_credit_that_does_not_add_up_is_a_bug(last: Credit) -> None:
    """More than a record had, or a share of nothing, is refused, and what came before still stands."""
    record = chain(1)[1]
    tracker = Tracker()
    tracker.settle([Ack(record, FULL_CREDIT - 1)])

    with pytest.raises(InvariantError, match=r"in:0:1 \(epoch 0\) returned"):
        tracker.settle([Ack(record, last)])

    assert tracker.position(LANE) is None
    tracker.settle([Ack(record, 1)])
    assert tracker.position(LANE) == 2


def test_a_chain_that_runs_backwards_is_a_bug() -> None:
    """A record below the one delivered before it in the same epoch would pull the watermark back."""
    tracker = Tracker()
    tracker.settle(whole(*chain(7, 8).values()))

    with pytest.raises(InvariantError, match="delivered after 8"):
        tracker.settle(whole(Record("in", 0, 5, previous=8)))
    assert tracker.position(LANE) == 9


def test_whole_records_in_order_leave_nothing_behind() -> None:
    """A long run of records without division keeps no state but the watermark."""
    records = chain(*range(0, 3000, 3))
    tracker = Tracker()

    assert watermarks(tracker.settle(whole(*records.values()))) == [2998]
    assert tracker.statistics() == TrackerStatistics(topic_partitions=1, partial=0, out_of_order=0)


def test_a_repetition_from_four_assignments_ago_is_known() -> None:
    """A record that finished four epochs before the newest one does not count again."""
    record = chain(1)[1]
    tracker = Tracker()
    for epoch in range(5):
        tracker.settle(whole(chain(1, epoch=epoch)[1]))

    assert told(tracker.settle(whole(record))) == ([], 0, 0, 0, 0)


def test_epochs_long_gone_are_forgotten() -> None:
    """However often a partition is assigned anew, what the lost records left behind does not pile up."""
    tracker = Tracker()
    for epoch in range(100):
        tracker.settle(whole(chain(1, 2, epoch=epoch)[2]))

    assert tracker.statistics().out_of_order < 10


def test_a_record_from_epochs_ago_still_counts_once_it_is_whole() -> None:
    """A share returned ten assignments ago is not lost: the record frees its memory in the end."""
    slow, untouched = chain(1, 2, epoch=0).values()
    tracker = Tracker()
    tracker.settle([Ack(slow, 1)])
    for epoch in range(1, 10):
        tracker.settle(whole(chain(1, epoch=epoch)[1]))

    assert told(tracker.settle([Ack(slow, FULL_CREDIT - 1), *whole(untouched)])) == ([], 2, 0, 0, 6)
    assert tracker.position(LANE) == 2


def test_a_tracker_goes_on_after_pickling() -> None:
    """A recovered tracker knows what was returned and finished before."""
    records = chain(1, 2, 3)
    tracker = Tracker()
    tracker.settle([*whole(records[3]), Ack(records[2], 1)])

    tracker = pickle.loads(pickle.dumps(tracker))

    assert watermarks(tracker.settle([*whole(records[1]), Ack(records[2], FULL_CREDIT - 1)])) == [4]


def test_finished_records_are_told_by_assignment() -> None:
    """Whoever counts what is in flight learns for each assignment what left it, older epochs included."""
    tracker = Tracker()
    older, newer = chain(1, 2), chain(1, epoch=1)
    settled = tracker.settle(whole(older[1], newer[1], older[2]))
    assert settled.finished == {(LANE, 0): (2, 6), (LANE, 1): (1, 3)}


def test_a_fenced_record_moves_no_watermark_and_nothing_behind_it_does() -> None:
    """What was not delivered because its partition went away is never committed by this assignment."""
    records = chain(1, 2, 3)
    tracker = Tracker()
    assert told(tracker.settle(whole(records[1])))[0] == [Watermark(LANE, 0, 2)]
    settled = tracker.settle([Ack(records[2], FULL_CREDIT, AckStatus.FENCED), Ack(records[3], FULL_CREDIT)])
    assert (settled.watermarks, settled.fenced, settled.done) == ([], 1, 1)
    assert tracker.position(LANE) is None
