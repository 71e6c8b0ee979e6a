"""The limit of records in flight by time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.pace import Pace

DRAIN_S, FLOOR, START = 10.0, 8, 250


def test_g15_the_limit_is_what_the_drain_can_finish() -> None:
    """80 % of it, at the rate that was measured."""
    pace = Pace(DRAIN_S, FLOOR, START)
    assert pace.limit(now=0.0, in_flight=100, finished=0) == START
    assert pace.limit(now=2.0, in_flight=100, finished=100) == 400  # 50/s for 8 s


def test_a_few_records_or_a_short_moment_are_no_measurement() -> None:
    """Ten records in a second may be chance; after ten seconds even none is a fact."""
    pace = Pace(DRAIN_S, FLOOR, START)
    pace.limit(now=0.0, in_flight=100, finished=0)
    assert pace.limit(now=0.2, in_flight=100, finished=100) == START
    pace = Pace(DRAIN_S, FLOOR, START)
    pace.limit(now=0.0, in_flight=100, finished=0)
    assert pace.limit(now=1.0, in_flight=100, finished=10) == START
    assert [pace.limit(now=1.0 + turn / 2, in_flight=100, finished=10) for turn in range(1, 20)][-1] == FLOOR


def test_records_that_all_finish_between_two_looks_count_as_well() -> None:
    """A flow that empties whatever it is given, before the next is asked for, is fast and not idle."""
    pace = Pace(DRAIN_S, FLOOR, 32)
    limits = [pace.limit(now=turn * 0.01, in_flight=0, finished=32 * turn) for turn in range(30)]
    assert limits[0] == 32
    assert limits[-1] == 25_600  # 3,200/s for 8 s


def test_time_without_work_is_no_slowness() -> None:
    """An idle hour does not lower the rate."""
    pace = Pace(DRAIN_S, FLOOR, START)
    pace.limit(now=0.0, in_flight=100, finished=0)
    pace.limit(now=1.0, in_flight=9, finished=1000)
    for hour in range(1, 10):
        assert pace.limit(now=3600.0 * hour, in_flight=0, finished=1000) == 8000


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(0, 1000), st.integers(0, 500)), max_size=60))
def test_the_limit_never_starves_a_flow_and_falls_by_half_at_most(steps: list[tuple[float, int, int]]) -> None:
    """Whatever happens: at least the floor, and no sudden stop."""
    pace = Pace(DRAIN_S, FLOOR, START)
    now, finished = 0.0, 0
    before = pace.limit(now=now, in_flight=0, finished=0)
    for pause, in_flight, done in steps:
        now += pause
        finished += done
        limit = pace.limit(now=now, in_flight=in_flight, finished=finished)
        assert limit >= FLOOR
        if before != START:
            assert limit >= before // 2 or limit == FLOOR
        before = limit
