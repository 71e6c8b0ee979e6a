"""Bisection: bad items are found, each alone, in few trials, and no good item is tried twice after a success."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.bisection import Bisection


def play(count: int, bad: set[int]) -> tuple[list[int], list[int], int]:
    """What a search finds and settles, and its number of trials."""
    search = Bisection(range(count))
    settled: list[int] = []
    trials = 0
    while trial := search.trial:
        trials += 1
        if bad & set(trial):
            search.bad()
        else:
            settled += trial
            search.good()
    return search.found, settled, trials


@given(st.integers(1, 80).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))))
def test_the_bad_are_found_and_each_good_item_is_settled_once(case: tuple[int, set[int]]) -> None:
    """Whatever is bad, in whatever number."""
    count, bad = case
    found, settled, trials = play(count, bad)
    assert sorted(found) == sorted(bad)
    assert sorted(settled) == sorted(set(range(count)) - bad)
    assert trials <= 3 * count + 20  # the worst mixtures that a search found: 85 of 32, 240 of 80


@pytest.mark.parametrize("position", range(0, 500, 7))
def test_one_bad_item_in_five_hundred_costs_at_most_twelve_trials(position: int) -> None:
    """Wherever it stands."""
    assert play(500, {position})[2] <= 12


def test_where_all_are_bad_the_trials_are_not_many_more_than_the_items() -> None:
    """The search gives up on large portions."""
    assert play(500, set(range(500)))[2] <= 600


def test_items_that_turn_out_good_after_all_end_the_search() -> None:
    """A group that failed by chance has no bad item."""
    assert play(9, set())[:2] == ([], list(range(9)))
