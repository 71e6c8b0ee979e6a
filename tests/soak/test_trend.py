"""Trends: a leak is found in noise, and noise is no leak."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soak.trend import trend


@given(st.integers(0, 2**32), st.floats(0.1, 50))
def test_noise_does_not_grow(seed: int, spread: float) -> None:
    """However wide it is: the slope's interval nearly always has 0, and the growth stays below the spread."""
    chance = random.Random(seed)
    found = trend([(float(second), 100 + chance.uniform(-spread, spread)) for second in range(200)])
    assert not found.grows(floor=spread)


@given(st.integers(0, 2**32), st.floats(1, 20))
def test_a_leak_is_found_in_noise(seed: int, leaked: float) -> None:
    """If it is as large as the noise."""
    chance = random.Random(seed)
    found = trend([(10.0 * number, chance.uniform(0, leaked) + 2 * leaked * number / 200) for number in range(200)])
    assert found.grows(floor=leaked)


def test_a_single_peak_moves_nothing() -> None:
    """Nor does a step back, such as that of a collection of garbage."""
    values = [100.0] * 150
    values[120:123] = [900.0] * 3
    assert trend([(float(at), value) for at, value in enumerate(values)]).slope == 0


def test_too_few_samples_have_no_trend() -> None:
    """A run that is too short says so."""
    with pytest.raises(ValueError, match="5 samples have no trend: take 6 or more"):
        trend([(float(at), 1.0) for at in range(5)])
