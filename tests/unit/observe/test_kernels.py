"""The pure kernels of the room: histogram, rate and repeat limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.observe.log.repeat_limit import RepeatLimit
from drakkar_flow.observe.metrics.histogram import LogHistogram
from drakkar_flow.observe.metrics.rate import SlidingRate

durations = st.floats(min_value=1e-6, max_value=1e6)


@given(st.lists(st.tuples(durations, st.integers(1, 5)), min_size=1), st.floats(0, 1))
def test_a_quantile_is_within_five_percent_of_the_sorted_list(values: list[tuple[float, int]], q: float) -> None:
    """Whatever the values and however often each, any quantile is nearly the one of the sorted list."""
    histogram = LogHistogram()
    for value, count in values:
        histogram.add(value, count)
    everything = sorted(value for value, count in values for _ in range(count))
    assert histogram.count == len(everything)
    assert histogram.quantile(q) == pytest.approx(everything[int(q * (len(everything) - 1))], rel=0.05)


@pytest.mark.parametrize(("value", "end"), [(0.0, 1e-6), (-1.0, 1e-6), (1e9, 1e6), (float("inf"), 1e6)])
def test_a_value_outside_the_range_counts_as_the_nearer_end(value: float, end: float) -> None:
    """No duration breaks the histogram or makes it grow."""
    histogram = LogHistogram()
    histogram.add(value)
    assert histogram.quantile(0.5) == pytest.approx(end, rel=0.05)


def test_an_empty_histogram_has_the_quantile_zero() -> None:
    """Before the first value there is nothing to divide by."""
    assert LogHistogram().quantile(0.99) == 0.0


@given(st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 100)), max_size=50), st.floats(0, 200), st.integers(1, 20))
def test_the_rate_is_the_count_of_the_last_slots_over_the_window(
    events: list[tuple[int, float]], later_s: float, window_s: int
) -> None:
    """The rate agrees with counting the events of the last `window_s` whole seconds by hand."""
    rate = SlidingRate(window_s, started_at=0.0)
    times = sorted(events, key=lambda event: event[1])
    for count, at in times:
        rate.add(count, at)
    now = (times[-1][1] if times else 0.0) + later_s
    inside = sum(count for count, at in times if int(at) > int(now) - window_s)
    assert rate.per_second(now) == pytest.approx(inside / min(window_s, max(now, 1.0)))


def test_a_steady_stream_has_a_steady_rate() -> None:
    """Second after second, over many windows, what left the window is no longer counted."""
    rate = SlidingRate(window_s=5, started_at=0.0)
    for second in range(50):
        rate.add(7, now=float(second))
        if second >= 5:
            assert rate.per_second(now=second + 0.5) == 7.0


def test_an_event_that_comes_a_little_late_is_still_counted() -> None:
    """Two threads may tell their times out of order."""
    rate = SlidingRate(window_s=10, started_at=0.0)
    rate.add(10, now=20.01)
    rate.add(10, now=19.99)
    assert rate.per_second(now=20.02) == 2.0


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 5)), max_size=60), st.integers(1, 4))
def test_every_line_is_either_admitted_or_counted_as_turned_away(steps: list[tuple[str, float]], burst: int) -> None:
    """Admitted lines, the counts told with them and the rest left at the end add up to all lines, by key."""
    limit, now = RepeatLimit(burst, interval_s=10.0), 0.0
    told = {"a": 0, "b": 0}
    for key, pause in steps:
        now += pause
        lost = limit.admit((key,), now)
        told[key] += 0 if lost is None else lost + 1
    rest = limit.turned_away()
    for key in "ab":
        assert told[key] + rest.get((key,), 0) == sum(1 for k, _ in steps if k == key)
    assert limit.turned_away() == {}


@given(st.lists(st.floats(0, 5), max_size=60), st.integers(1, 4))
def test_no_more_than_the_burst_is_admitted_in_one_interval(pauses: list[float], burst: int) -> None:
    """Counted from the line that opened it, an interval never admits more than its share."""
    limit, now = RepeatLimit(burst, interval_s=10.0), 0.0
    began, admitted = None, 0
    for pause in pauses:
        now += pause
        if began is None or now - began >= 10.0:
            began, admitted = now, 0
        admitted += limit.admit(("k",), now) is not None
        assert admitted <= burst
