"""The common start of workers: when it is, for any clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.alignment import aligned_start


@pytest.mark.parametrize(("now_s", "start_s"), [(12.0, 20.0), (16.0, 20.0), (17.0, 30.0)])
def test_d31_a_start_waits_four_seconds_and_then_for_the_next_ten(now_s: float, start_s: float) -> None:
    """py-drakkar's case: min_wait 4, interval 10."""
    assert aligned_start(now_s, 4.0, 10) == start_s


@given(st.integers(0, 2**32).map(float), st.integers(0, 600).map(float), st.integers(1, 3600))
def test_a_start_is_a_multiple_of_the_interval_after_the_wait_and_no_later_than_needed(
    now_s: float, min_wait_s: float, interval_s: int
) -> None:
    """For any clock, wait and interval."""
    start_s = aligned_start(now_s, min_wait_s, interval_s)
    assert start_s % interval_s == 0
    assert now_s + min_wait_s <= start_s < now_s + min_wait_s + interval_s
