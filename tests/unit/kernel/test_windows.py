"""Windows of event time against a model that sees all times at once."""

from __future__ import annotations

from collections import defaultdict
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.windows import Assigner, OpenWindows, SessionAssigner, SlidingAssigner, Span

KEYS = st.sampled_from(["a", "b"])
TIMES = st.lists(st.tuples(KEYS, st.integers(-50, 200)), max_size=40)
SLIDING = st.tuples(st.integers(1, 40), st.integers(1, 40)).map(lambda sizes: (max(sizes), min(sizes)))
Times = list[tuple[str, int]]
Result = tuple[str, Span, tuple[int, ...]]


def fold(
    assigner: Assigner, times: list[tuple[str, int]], lateness: int, *, cuts: bool = False
) -> tuple[list[Result], list[tuple[str, int]]]:
    """Results of closed windows in their order, and late records; with `cuts` each record meets a copy made anew."""
    windows = OpenWindows[tuple[int, ...]](assigner, lateness)
    opened: dict[tuple[str, Span], tuple[int, ...]] = {}
    results: list[Result] = []
    late = []
    for key, at in times:
        if cuts:
            copied = [(each, span, value) for (each, span), value in opened.items()]
            windows = OpenWindows(assigner, lateness, copied, windows.watermark_ms)
        placements = windows.place(key, at)
        if not placements:
            late.append((key, at))
            continue
        for placement in placements:
            joined: tuple[int, ...] = reduce(
                lambda a, b: a + b, [windows.get(key, each) for each in placement.merged], ()
            )
            windows.put(key, placement, (*joined, at))
            for each in placement.merged:
                del opened[key, each]
            opened[key, placement.span] = (*joined, at)
        due = windows.due(at)
        assert due == windows.due(at)
        results += [(*each, windows.get(*each)) for each in due]
        windows.close(at, due)
        for closed in due:
            del opened[closed]
    return results, late


def sliding_model(
    size: int, every: int, times: list[tuple[str, int]], watermark: int
) -> dict[tuple[str, Span], list[int]]:
    """Times by window, of windows that end up to the watermark."""
    found = defaultdict(list)
    for key, at in times:
        for start in range(at - size - every, at + 1):
            if start % every == 0 and start <= at < start + size <= watermark:
                found[key, Span(start, start + size)].append(at)
    return found


def session_model(gap: int, times: list[tuple[str, int]], watermark: int) -> dict[tuple[str, Span], list[int]]:
    """Times by session: a time that is less than `gap` after another joins it."""
    found: dict[tuple[str, Span], list[int]] = {}
    for key in ("a", "b"):
        runs: list[list[int]] = []
        for at in sorted(at for each, at in times if each == key):
            if runs and at - runs[-1][-1] < gap:
                runs[-1].append(at)
            else:
                runs.append([at])
        found |= {(key, Span(run[0], run[-1] + gap)): run for run in runs if run[-1] + gap <= watermark}
    return found


def punctual(times: list[tuple[str, int]], lateness: int) -> list[tuple[str, int]]:
    """The times that are not further behind the greatest before them than the allowed lateness."""
    kept: list[tuple[str, int]] = []
    for key, at in times:
        if not kept or at >= max(other for _, other in kept) - lateness:
            kept.append((key, at))
    return kept


def as_sets(results: list[Result]) -> dict[tuple[str, Span], list[int]]:
    """Results without the order of their times; each window occurs once."""
    found = {(key, span): sorted(values) for key, span, values in results}
    assert len(found) == len(results)
    return found


@given(SLIDING, TIMES, st.integers(0, 60))
def test_fixed_windows_have_exactly_their_times_in_any_order_within_the_lateness(
    sizes: tuple[int, int], times: Times, lateness: int
) -> None:
    """Each window has the times from its start to its end, once; nothing is late, and the order of times is free."""
    times = punctual(times, lateness)
    results, late = fold(SlidingAssigner(*sizes), times, lateness)
    watermark = max((at for _, at in times), default=0) - lateness
    model = sliding_model(*sizes, times, watermark)
    assert as_sets(results) == {window: sorted(found) for window, found in model.items()}
    assert late == []


@given(st.integers(1, 60), TIMES, st.integers(0, 60))
def test_sessions_are_those_of_all_times_in_order(gap: int, times: Times, lateness: int) -> None:
    """Sessions that arrive in pieces are merged: the result is that of the sorted times."""
    times = punctual(times, lateness)
    results, late = fold(SessionAssigner(gap), times, lateness)
    watermark = max((at for _, at in times), default=0) - lateness
    assert as_sets(results) == session_model(gap, times, watermark)
    assert late == []


@given(
    st.one_of(SLIDING.map(lambda sizes: SlidingAssigner(*sizes)), st.integers(1, 60).map(SessionAssigner)),
    TIMES,
    st.integers(0, 60),
)
def test_state_that_is_read_anew_gives_the_same(
    assigner: SlidingAssigner | SessionAssigner, times: Times, lateness: int
) -> None:
    """A restart between any two records changes neither results, nor their order, nor what is late."""
    assert fold(assigner, times, lateness) == fold(assigner, times, lateness, cuts=True)


@given(SLIDING, TIMES, st.integers(0, 60))
def test_a_record_counts_in_its_open_windows_or_is_late(sizes: tuple[int, int], times: Times, lateness: int) -> None:
    """Whatever the order: a record whose windows are all passed is late, others are in each window that is not."""
    results, late = fold(SlidingAssigner(*sizes), [*times, ("a", 10_000)], lateness)
    expected, expected_late = defaultdict(list), []
    watermark = None
    for key, at in times:
        spans = [span for span in _spans(*sizes, at) if watermark is None or span.end_ms > watermark]
        for span in spans:
            expected[key, span].append(at)
        if spans:
            watermark = max(at - lateness, -(10**6) if watermark is None else watermark)
        else:
            expected_late.append((key, at))
    assert as_sets(results) == {window: sorted(found) for window, found in expected.items()}
    assert late == expected_late


def _spans(size: int, every: int, at: int) -> list[Span]:
    return [Span(start, start + size) for start in range(at - size + 1, at + 1) if start % every == 0]


@pytest.mark.parametrize(("at", "starts"), [(59, [0, 30]), (60, [30, 60]), (-1, [-60, -30])])
def test_a_window_has_its_start_and_not_its_end(at: int, starts: list[int]) -> None:
    """Also before the epoch."""
    assert [placement.span.start_ms for placement in SlidingAssigner(60, 30).place(at, [])] == starts
