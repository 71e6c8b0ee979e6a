"""Back-off grows to its limit and never beyond."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.backoff import Backoff

finite = st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_nan=False)
backoffs = st.builds(
    lambda bounds, factor: Backoff(min(bounds), max(bounds), factor),
    st.tuples(finite, finite),
    st.floats(min_value=1, allow_infinity=False, allow_nan=False),
)
attempts = st.integers(min_value=0, max_value=50) | st.integers(min_value=0, max_value=10**6)


@given(backoff=backoffs, attempt=attempts, more=attempts)
def test_ceiling_never_sinks_and_stays_within_its_bounds(backoff: Backoff, attempt: int, more: int) -> None:
    """The ceiling is between the initial pause and the limit and grows with the attempts."""
    assert backoff.initial_s <= backoff.ceiling_s(attempt) <= backoff.ceiling_s(attempt + more) <= backoff.max_s


@given(backoff=backoffs, attempt=attempts, seed=st.integers())
def test_delay_is_anywhere_below_the_ceiling(backoff: Backoff, attempt: int, seed: int) -> None:
    """The pause is a random part of the ceiling."""
    delay_s = backoff.delay_s(attempt, random.Random(seed).random)

    assert 0 <= delay_s <= backoff.ceiling_s(attempt)
    assert delay_s == random.Random(seed).random() * backoff.ceiling_s(attempt)


def test_first_pause_starts_at_the_initial_and_each_one_more_multiplies_it() -> None:
    """The ceiling after one failed attempt is the initial pause, after two it is `factor` times that."""
    backoff = Backoff(initial_s=0.1, max_s=5.0, factor=3.0)

    assert [backoff.ceiling_s(n) for n in (1, 2, 3, 4, 5)] == pytest.approx([0.1, 0.3, 0.9, 2.7, 5.0])


def test_a_million_attempts_do_not_overflow() -> None:
    """Far beyond what a float holds the ceiling is the limit, or the initial pause if it does not grow."""
    assert Backoff(0.1, 30.0).ceiling_s(10**6) == 30.0
    assert Backoff(0.1, 30.0, factor=1.0).ceiling_s(10**6) == 0.1


@pytest.mark.parametrize(
    "arguments",
    [
        {"initial_s": 0.0, "max_s": 1.0},
        {"initial_s": 2.0, "max_s": 1.0},
        {"initial_s": 1.0, "max_s": float("inf")},
        {"initial_s": float("nan"), "max_s": 1.0},
        {"initial_s": 1.0, "max_s": 1.0, "factor": 0.5},
        {"initial_s": 1.0, "max_s": 1.0, "factor": float("nan")},
    ],
)
def test_bounds_that_make_no_sense_are_refused(arguments: dict[str, Any]) -> None:
    """Pauses of nothing, without end, or that shrink are refused when the back-off is made."""
    with pytest.raises(ValueError, match="backoff needs"):
        Backoff(**arguments)
