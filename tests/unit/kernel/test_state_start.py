"""Start of a partition with state: equal offsets go on, different ones are a decision of the configuration."""

from __future__ import annotations

from typing import Any

import pytest

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.kernel.recovery_start import Log, StartRefused
from drakkar_flow.kernel.state_messages import Position
from drakkar_flow.kernel.state_start import (
    BY_RESET_POLICY,
    FIRST_START,
    CommittedOffset,
    StatePolicy,
    StateStart,
    decide_state_start,
)

AT = ("in", 3)
LOG = Log(0, 100)


def position(offset: int, *finished: tuple[int, int]) -> Position:
    """A stored position."""
    return Position(group="g", flow="f", topic_id="t", offset=offset, finished=list(finished))


def decided(stored: Position | None, committed: CommittedOffset | None, log: Log = LOG, **policy: Any) -> StateStart:
    """The start, which must not be refused."""
    found = decide_state_start(AT, stored, committed, log, StatePolicy(**policy))
    assert isinstance(found, StateStart), found
    return found


def refused(stored: Position | None, committed: CommittedOffset | None, log: Log = LOG, **policy: Any) -> str:
    """The reason of a refusal."""
    found = decide_state_start(AT, stored, committed, log, StatePolicy(**policy))
    assert isinstance(found, StartRefused), found
    return found.what


def remedy(stored: Position | None, committed: CommittedOffset | None, log: Log) -> str:
    """How to fix a refusal."""
    found = decide_state_start(AT, stored, committed, log, StatePolicy())
    assert isinstance(found, StartRefused), found
    return found.remedy


def summary(start: StateStart) -> tuple[int, list[tuple[int, int]], bool, bool]:
    """Offset, finished ranges, whether the state is kept, and whether there is a warning."""
    return start.offset, list(start.finished), start.keeps_state, bool(start.warning)


@pytest.mark.parametrize("policy", ["fail", "keep", "reset"])
def test_equal_offsets_go_on_silently_with_all_finished_ranges(policy: str) -> None:
    """Whatever the policy is; the map is that of the position, not that of the metadata."""
    start = decided(position(7, (9, 11), (20, 30)), CommittedOffset(7, "d2:"), on_mismatch=policy)
    assert summary(start) == (7, [(9, 11), (20, 30)], True, False)


def test_a_new_partition_starts_by_the_reset_policy() -> None:
    """Nothing was ever committed or stored."""
    assert summary(decided(None, None)) == (BY_RESET_POLICY, [], False, False)


def test_the_offset_of_a_first_start_has_no_position_yet() -> None:
    """`latest` commits it before any record is read."""
    assert summary(decided(None, CommittedOffset(40, FIRST_START))) == (40, [], False, False)


def test_expired_offsets_go_on_at_the_position() -> None:
    """Nobody set another one; also where those of the first start were committed anew."""
    for committed in (None, CommittedOffset(100, FIRST_START)):
        for policy in ("fail", "keep"):
            assert summary(decided(position(7, (9, 11)), committed, on_mismatch=policy)) == (7, [(9, 11)], True, True)
        assert summary(decided(position(7), committed, on_mismatch="reset")) == (BY_RESET_POLICY, [], False, True)


def test_an_offset_without_position_is_lost_state() -> None:
    """Or a flow that kept none before; it starts with empty state only if told so."""
    metadata = OffsetRanges([(45, 50)]).encode(40, 1000)
    assert "its state is lost, or the flow kept none before" in refused(None, CommittedOffset(40))
    for policy in ("keep", "reset"):
        start = decided(None, CommittedOffset(40, metadata), on_mismatch=policy)
        assert summary(start) == (40, [(45, 50)], False, True)
    start = decided(None, CommittedOffset(400, metadata), on_mismatch="reset")
    assert summary(start) == (100, [], False, True)


def test_an_offset_that_was_set_from_outside() -> None:
    """Finished ranges of another offset are not skipped."""
    given = position(7, (9, 11)), CommittedOffset(5)
    assert "another client set the offset" in refused(*given)
    assert summary(decided(*given, on_mismatch="keep")) == (5, [], True, True)
    assert summary(decided(*given, on_mismatch="reset")) == (5, [], False, True)


def test_an_offset_that_was_set_outside_of_the_log_is_that_of_its_nearest_end() -> None:
    """The client would begin anywhere else, by its reset policy, and take that for a log that went back."""
    log = Log(3, 100)
    for offset, nearest in ((1, 3), (400, 100)):
        assert f"from offset {nearest}" in remedy(position(7), CommittedOffset(offset), log)
        for same_topic in (True, False):
            start = decided(
                position(7), CommittedOffset(offset), log._replace(same_topic=same_topic), on_mismatch="keep"
            )
            assert start.offset == nearest
            assert f"continues at {nearest}" in start.warning


def test_a_recreated_topic() -> None:
    """It is read from its beginning, or from an offset that someone has set in it."""
    new = Log(2, 100, same_topic=False)
    for committed, offset in ((None, 2), (CommittedOffset(7), 2), (CommittedOffset(50), 50)):
        assert "deleted and created again" in refused(position(7), committed, log=new)
        assert summary(decided(position(7), committed, log=new, on_mismatch="keep")) == (offset, [], True, True)
        assert summary(decided(position(7), committed, log=new, on_mismatch="reset")) == (offset, [], False, True)


def test_a_log_that_ends_before_the_position() -> None:
    """It was truncated: state stays at its end, or begins anew with the log."""
    given, short = (position(70), CommittedOffset(70)), Log(3, 50)
    assert "the log ends at 50, before the position 70" in refused(*given, log=short)
    assert summary(decided(*given, log=short, on_mismatch="keep")) == (50, [], True, True)
    assert summary(decided(*given, log=short, on_mismatch="reset")) == (3, [], False, True)


def test_a_log_that_begins_after_the_position_keeps_its_state() -> None:
    """What retention has deleted is counted; finished ranges of it are not missed."""
    given, late = (position(7, (9, 11), (20, 25)), CommittedOffset(7)), Log(20, 100)
    start = decided(*given, log=late)
    assert summary(start) == (25, [(20, 25)], True, True)
    assert "11 offsets are deleted" in start.warning
    assert "11 offsets are deleted" in refused(*given, log=late, auto_offset_reset="none")
