"""Positions: which offsets are due, and for whom they may be committed."""

from __future__ import annotations

import pytest

from drakkar_flow.model.record import Watermark
from drakkar_flow.runtime.group.commit_queue import CommitQueue

A, B = ("in", 0), ("in", 1)


@pytest.fixture
def positions() -> CommitQueue:
    """Due after 10 s or 100 offsets."""
    return CommitQueue(10.0, 100, now=0.0)


def test_nothing_noted_is_never_due(positions: CommitQueue) -> None:
    """Time alone commits nothing."""
    assert not positions.due(1e9)
    assert positions.take({A: 1}, 1e9) == {}


def test_what_was_noted_is_due_after_the_interval(positions: CommitQueue) -> None:
    """The interval counts from the last time something was taken."""
    positions.note([Watermark(A, 1, 5)])
    assert not positions.due(9.9)
    assert positions.due(10.0)
    assert positions.take({A: 1}, 12.0) == {A: 5}
    assert not positions.due(1000.0)
    positions.note([Watermark(A, 1, 6)])
    assert not positions.due(21.9)
    assert positions.due(22.0)


def test_enough_finished_offsets_are_due_at_once(positions: CommitQueue) -> None:
    """The first watermark of an assignment counts 1, then each counts how far it moved, over all partitions."""
    positions.note([Watermark(A, 1, 1000)])
    positions.note([Watermark(A, 1, 1060), Watermark(B, 1, 7)])
    assert not positions.due(0.0)
    positions.note([Watermark(B, 1, 44)])
    assert not positions.due(0.0)
    positions.note([Watermark(B, 1, 45)])
    assert positions.due(0.0)
    assert positions.take({A: 1, B: 1}, 0.0) == {A: 1060, B: 45}
    positions.note([Watermark(A, 1, 1159)])
    assert not positions.due(0.0)


def test_a_new_assignment_counts_from_its_first_watermark(positions: CommitQueue) -> None:
    """An offset far from the one of the epoch before is no progress of thousands."""
    positions.note([Watermark(A, 1, 5)])
    positions.note([Watermark(A, 2, 5000)])
    assert not positions.due(0.0)


def test_only_present_assignments_are_committed(positions: CommitQueue) -> None:
    """A watermark of an ended assignment is dropped, also when the partition is back."""
    positions.note([Watermark(A, 1, 5), Watermark(B, 1, 6)])
    assert positions.take({A: 2}, 10.0) == {}
    assert not positions.due(1e9)
    positions.note([Watermark(A, 2, 3)])
    assert positions.take({A: 2}, 10.0) == {A: 3}


def test_each_watermark_is_taken_once_and_the_newest_counts(positions: CommitQueue) -> None:
    """Between two commits only the last position of a partition matters."""
    positions.note([Watermark(A, 1, 5)])
    positions.note([Watermark(A, 1, 8)])
    assert positions.take({A: 1}, 1.0) == {A: 8}
    assert positions.take({A: 1}, 2.0) == {}


def test_d5_a_refused_commit_is_due_again_with_what_is_known_by_then(positions: CommitQueue) -> None:
    """put_back brings the partition back, not the old offset; partitions that are gone stay gone."""
    positions.note([Watermark(A, 1, 5), Watermark(B, 1, 5)])
    positions.take({A: 1, B: 1}, 0.0)
    positions.note([Watermark(A, 1, 9)])
    positions.forget([B])
    positions.put_back([A, B])
    assert positions.due(10.0)
    assert positions.take({A: 1, B: 1}, 10.0) == {A: 9}


def test_a_refused_commit_of_a_lane_that_is_gone_is_not_due(positions: CommitQueue) -> None:
    """There is nothing to commit for it."""
    positions.note([Watermark(A, 1, 5)])
    positions.take({A: 1}, 0.0)
    positions.forget([A])
    positions.put_back([A])
    assert not positions.due(1e9)


def test_of_gives_positions_committed_or_not(positions: CommitQueue) -> None:
    """What a revoke commits: of the asked assignments, in their epoch."""
    positions.note([Watermark(A, 1, 5), Watermark(B, 3, 7)])
    positions.take({A: 1}, 0.0)
    assert positions.of({A: 1, B: 3, ("in", 9): 1}) == {A: 5, B: 7}
    assert positions.of({A: 2}) == {}


def test_forgotten_lanes_have_no_position_and_are_not_due(positions: CommitQueue) -> None:
    """After a revoke nothing of the partition is left; forgetting twice is harmless."""
    positions.note([Watermark(A, 1, 5)])
    positions.forget([A])
    positions.forget([A])
    assert not positions.due(1e9)
    assert positions.of({A: 1}) == {}


def test_what_no_broker_accepted_counts_as_uncommitted() -> None:
    """It is what a crash would repeat, so it holds back the intake."""
    positions = CommitQueue(1.0, 100, 0.0)
    positions.note([Watermark(A, 1, 10)])
    positions.note([Watermark(A, 1, 30)])
    assert positions.uncommitted == 21
    offsets = positions.take({A: 1}, 1.0)
    assert positions.uncommitted == 21
    positions.accepted(offsets)
    positions.accepted(offsets)
    assert positions.uncommitted == 0
    positions.note([Watermark(A, 1, 35)])
    positions.accepted({A: 32, ("other", 0): 9})
    assert positions.uncommitted == 3


def test_commits_are_overdue_when_nothing_is_accepted_for_long() -> None:
    """Only what was asked for can be overdue, and any acceptance ends it."""
    positions = CommitQueue(1.0, 100, 0.0)
    assert not positions.overdue(1e9, 5.0)
    positions.note([Watermark(A, 1, 10)])
    assert not positions.overdue(1e9, 5.0)
    offsets = positions.take({A: 1}, 10.0)
    positions.note([Watermark(A, 1, 20)])
    positions.take({A: 1}, 14.0)
    assert not positions.overdue(15.0, 5.0)
    assert positions.overdue(15.1, 5.0)
    positions.accepted(offsets)
    assert not positions.overdue(1e9, 5.0)
    positions.take({A: 1}, 20.0)
    positions.note([Watermark(A, 1, 30)])
    positions.take({A: 1}, 21.0)
    positions.forget([A])
    assert not positions.overdue(1e9, 5.0)


def test_a_new_assignment_and_a_revoke_take_their_uncommitted_offsets_along() -> None:
    """What is no longer ours to commit holds nothing back."""
    positions = CommitQueue(1.0, 100, 0.0)
    positions.note([Watermark(A, 1, 10)])
    positions.note([Watermark(A, 1, 30)])
    positions.note([Watermark(A, 2, 5)])
    assert positions.uncommitted == 1
    positions.accepted({A: 30})
    assert positions.uncommitted == 1
    positions.forget([A])
    assert positions.uncommitted == 0


def test_a_position_never_goes_back(positions: CommitQueue) -> None:
    """Two threads note watermarks of one assignment, and the earlier one may come last."""
    positions.note([Watermark(A, 1, 5)])
    positions.note([Watermark(A, 1, 4)])
    assert positions.take({A: 1}, 12.0) == {A: 5}
    assert positions.uncommitted == 1
