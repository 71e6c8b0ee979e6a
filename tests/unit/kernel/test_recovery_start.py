"""The start of a partition with a recovery store: every disagreement of store, commits and log."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.kernel.partition_row import PartitionRow
from drakkar_flow.kernel.recovery_start import Committed, Log, Start, StartPolicy, StartRefused, decide_start

AT = ("in", 3)
ROW = PartitionRow(100, OffsetRanges([(105, 110)]), {("count", "anna"): b"1"})
LOG = Log(0, 200)


def decide(
    row: PartitionRow | None, committed: Committed | None = None, log: Log = LOG, **policy: Any
) -> Start | StartRefused:
    """Decide with a flow that has state and a store that was used, unless said otherwise."""
    return decide_start(AT, row, committed, log, StartPolicy(**{"has_state": True, "first_start": False, **policy}))


def started(result: Start | StartRefused) -> Start:
    """The start; fails if it was refused."""
    assert isinstance(result, Start), result
    return result


def refused(result: Start | StartRefused) -> StartRefused:
    """The refusal; fails if it was none."""
    assert isinstance(result, StartRefused), result
    return result


def commit(offset: int, *, ours: bool = True, finished: OffsetRanges | None = None) -> Committed:
    """A committed offset."""
    return Committed(offset, finished or OffsetRanges(), ours)


@pytest.mark.parametrize("committed", [None, commit(40), commit(100), commit(100, ours=False)])
def test_kafka_behind_or_expired_is_normal_and_silent(committed: Committed | None) -> None:
    """After a crash the commit is behind; offsets of a group expire."""
    start = started(decide(ROW, committed))
    assert (start.offset, list(start.finished), start.keeps_state, start.warning) == (100, [(105, 110)], True, "")


def test_a_store_older_than_the_commits_wins_and_the_count_is_reported() -> None:
    """A backup was restored: state is exact, deliveries repeat."""
    start = started(decide(ROW, commit(160)))
    assert (start.offset, start.keeps_state) == (100, True)
    assert start.warning == "in-3: the store is older than the committed offset 160; 60 offsets are read again"


@pytest.mark.parametrize("offset", [20, 160])
def test_commits_of_another_client_are_reported_and_not_used(offset: int) -> None:
    """The warning names the command that obeys them."""
    start = started(decide(ROW, commit(offset, ours=False)))
    assert (start.offset, start.keeps_state) == (100, True)
    assert f"another client committed offset {offset}" in start.warning
    assert "drakkar-flow recovery reset" in start.warning


def test_a_lost_store_without_state_continues_at_the_commits() -> None:
    """With the offsets that the commit's metadata names as finished."""
    start = started(decide(None, commit(50, finished=OffsetRanges([(55, 60)])), has_state=False))
    assert (start.offset, list(start.finished), start.keeps_state) == (50, [(55, 60)], False)
    assert start.warning == "in-3: no row in the store; continues at the committed offset 50"


@pytest.mark.parametrize("ours", [True, False])
def test_a_lost_store_with_state_is_refused(*, ours: bool) -> None:
    """The fix names both choices."""
    refusal = refused(decide(None, commit(50, ours=ours)))
    assert "the store has no row: the state is lost" in refusal.what
    assert "on_lost: commits" in refusal.remedy
    assert "earliest" in refusal.remedy


def test_a_lost_store_with_on_lost_commits_starts_with_empty_state_there() -> None:
    """And says both."""
    start = started(decide(None, commit(50), on_lost="commits"))
    assert (start.offset, start.keeps_state) == (50, False)
    assert start.warning == "in-3: no row in the store; continues at the committed offset 50 with empty state"


def test_a_lost_store_with_on_lost_earliest_computes_the_state_again() -> None:
    """From the log's first offset."""
    start = started(decide(None, commit(50), Log(10, 200), on_lost="earliest"))
    assert (start.offset, start.keeps_state) == (10, False)
    assert "from the beginning 10 with empty state" in start.warning


@pytest.mark.parametrize(("committed", "offset"), [(5, 30), (500, 200)])
def test_a_commit_outside_of_the_log_is_moved_into_it(committed: int, offset: int) -> None:
    """Its ranges are dropped then."""
    start = started(decide(None, commit(committed), Log(30, 200), has_state=False))
    assert (start.offset, list(start.finished)) == (offset, [])
    assert ("25 offsets before are deleted" in start.warning) == (committed == 5)


@pytest.mark.parametrize("reset", ["earliest", "latest"])
def test_retention_beyond_the_position_is_counted_and_state_stays(reset: str) -> None:
    """Offsets that were finished out of order are not missed."""
    start = started(decide(ROW, commit(100), Log(120, 200), auto_offset_reset=reset))
    assert (start.offset, list(start.finished), start.keeps_state) == (120, [], True)
    assert start.warning == ("in-3: the log begins at 120, after the stored position 100: 15 offsets are deleted")


def test_retention_into_a_finished_range_starts_after_it() -> None:
    """What is finished is not read again."""
    assert started(decide(ROW, None, Log(107, 200))).offset == 110


@pytest.mark.parametrize("reset", ["error", "none"])
def test_retention_beyond_the_position_is_refused_if_asked(reset: str) -> None:
    """auto_offset_reset: error stops the flow."""
    refusal = refused(decide(ROW, None, Log(120, 200), auto_offset_reset=reset))
    assert "15 offsets are deleted" in refusal.what
    assert f"auto_offset_reset is {reset}" in refusal.remedy


def test_a_topic_created_again_is_refused_with_state() -> None:
    """The state belongs to records that no longer exist."""
    refusal = refused(decide(ROW, commit(100), Log(0, 200, same_topic=False)))
    assert "topic 'in' was deleted and created again" in refusal.what
    assert "on_incompatible: reset" in refusal.remedy


@pytest.mark.parametrize("policy", [{"has_state": False}, {"on_incompatible": "reset"}])
@pytest.mark.parametrize("reset", ["earliest", "latest", "error"])
def test_a_topic_created_again_is_read_as_a_new_one(policy: dict[str, Any], reset: str) -> None:
    """From its beginning: all of its records are new."""
    start = started(decide(ROW, commit(100), Log(2, 200, same_topic=False), auto_offset_reset=reset, **policy))
    assert (start.offset, list(start.finished), start.keeps_state) == (2, [], False)
    assert "created again" in start.warning


def test_a_topic_that_ends_before_the_position_continues_at_its_end() -> None:
    """An unclean election lost records; the state of theirs stays."""
    start = started(decide(ROW, commit(100), Log(0, 90)))
    assert (start.offset, list(start.finished), start.keeps_state) == (90, [], True)
    assert "the topic ends at 90, before the stored position 100" in start.warning


def test_ranges_beyond_the_end_of_the_topic_are_dropped() -> None:
    """Records that will get these offsets are new ones."""
    start = started(decide(ROW, None, Log(0, 107)))
    assert (start.offset, list(start.finished)) == (100, [(105, 107)])


@pytest.mark.parametrize(
    ("reset", "first_start", "offset"),
    [("earliest", True, 30), ("earliest", False, 30), ("latest", True, 200), ("latest", False, 30)],
)
def test_a_partition_without_row_and_commit_starts_by_auto_offset_reset(
    reset: str, offset: int, *, first_start: bool
) -> None:
    """A partition that is added later is read from its beginning."""
    start = started(decide(None, None, Log(30, 200), first_start=first_start, auto_offset_reset=reset))
    assert start == Start(offset, start.finished, keeps_state=False)


def test_a_partition_without_row_and_commit_is_refused_if_asked() -> None:
    """auto_offset_reset: error."""
    assert (
        "neither the store nor the group has an offset"
        in refused(decide(None, None, first_start=True, auto_offset_reset="error")).what
    )


offsets = st.integers(0, 1_000)
ranges = st.lists(st.tuples(offsets, st.integers(1, 50))).map(
    lambda found: OffsetRanges((start, start + length) for start, length in found)
)


@given(
    st.none() | st.builds(PartitionRow, offsets, ranges, st.just({})),
    st.none() | st.builds(Committed, offsets, ranges, st.booleans()),
    st.tuples(offsets, offsets, st.booleans()),
    st.builds(
        StartPolicy,
        st.booleans(),
        st.booleans(),
        st.sampled_from(["fail", "commits", "earliest"]),
        st.sampled_from(["fail", "reset"]),
        st.sampled_from(["earliest", "latest", "error", "none"]),
    ),
)
def test_every_start_lies_in_the_log_and_skips_nothing_unfinished(
    row: PartitionRow | None, committed: Committed | None, log: tuple[int, int, bool], policy: StartPolicy
) -> None:
    """A row of the same topic is never passed over but for deleted offsets; state is kept with its row only."""
    there = Log(min(log[:2]), max(log[:2]), log[2])
    start = decide_start(AT, row, committed, there, policy)
    if isinstance(start, StartRefused):
        assert start.what.startswith("in-3: ")
        assert start.remedy
        return
    assert there.start <= start.offset <= there.end or start.offset == start.finished.end_of(there.start)
    assert start.finished.stop <= there.end
    assert start.keeps_state == (row is not None and there.same_topic)
    if row is not None and there.same_topic:
        skipped = set(range(max(row.offset, there.start), start.offset))
        assert all(offset in row.finished for offset in skipped)
