"""The kernel that tells mistakes from bad data."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.brake import Brake, Cause

TABLE = Cause("sink", "sink", "no table", certain=True)
DATA = Cause("decode", "decode", "no number")


def brake(stop_after: int = 3, max_ratio: float = 0.0, window: int = 100) -> Brake:
    """A brake that stops early."""
    return Brake(stop_after, max_ratio, window)


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 8))
def test_a_certain_cause_stops_exactly_when_its_run_is_long_enough(successes: list[bool], stop_after: int) -> None:
    """Whatever came before: the failures since the last success count."""
    it, run = brake(stop_after), 0
    for offset, success in enumerate(successes):
        if success:
            it.succeed("sink")
            run = 0
        else:
            it.fail(TABLE, [offset])
            run += 1
        assert it.suspects(TABLE) == (run > 0)
        assert it.stops(TABLE) == (run >= stop_after)
        assert it.count(TABLE) == run


@given(st.lists(st.sampled_from(["good", "bad", "other"]), max_size=120), st.integers(1, 4))
def test_bad_data_never_stops_a_step_that_has_worked_once(ends: list[str], stop_after: int) -> None:
    """Without max_ratio; before its first success it takes ten times as many records."""
    it, worked, bad = brake(stop_after), False, 0
    for offset, end in enumerate(ends):
        if end == "good":
            it.succeed("decode")
            worked = True
        elif end == "bad":
            it.fail(DATA, [offset])
            bad += 1
        else:
            it.succeed("another step")
        assert it.stops(DATA) == (not worked and bad >= 10 * stop_after)


@given(st.integers(0, 300), st.integers(0, 300))
def test_failures_of_one_record_do_not_make_a_mistake_of_bad_data(failures: int, records: int) -> None:
    """Many failures of few records, or one failure of many, say little."""
    it = brake(stop_after=3)
    for number in range(failures):
        it.fail(DATA, [number % 29])
    assert not it.stops(DATA)
    it = brake(stop_after=3)
    it.fail(DATA, range(records))
    it.fail(DATA, range(records))
    assert not it.stops(DATA)


@given(st.integers(1, 99), st.integers(1, 5))
def test_the_share_of_a_cause_stops_when_it_is_exceeded_and_never_below(percent: int, rounds: int) -> None:
    """One cause among good records, at any percentage."""
    it = brake(stop_after=10**6, max_ratio=0.9)
    it.succeed("decode")
    stopped = False
    for number in range(100 * rounds):
        if number % 100 < percent:
            it.fail(DATA, [number], finished=number, in_flight=100 - number % 100)
            stopped = stopped or it.stops(DATA)
    if percent < 90:
        assert not stopped
    elif percent > 95 and rounds > 2:
        assert stopped


def test_what_is_in_flight_counts_as_good() -> None:
    """The first to end are those that fail: they say nothing about the others."""
    it = brake(stop_after=10**6, max_ratio=0.9, window=100)
    it.succeed("decode")
    for number in range(1000):
        it.fail(DATA, [number], finished=number, in_flight=9000)
    assert not it.stops(DATA)


def test_causes_are_counted_apart() -> None:
    """Two causes that alternate are two runs, of which each has to be long enough."""
    it, other = brake(stop_after=3), TABLE._replace(text="no rights")
    for offset in range(4):
        it.fail((TABLE, other)[offset % 2], [offset])
    assert not it.stops(TABLE)
    it.fail(TABLE, [9])
    assert it.stops(TABLE)
    assert not it.stops(other)


def test_a_refuted_failure_begins_no_run() -> None:
    """A success of its step came after it."""
    it = brake(stop_after=1)
    it.fail(TABLE, [1], refuted=True)
    assert not it.suspects(TABLE)


def test_ever_new_causes_take_bounded_memory() -> None:
    """Texts that nothing in common can be found in."""
    it = brake()
    for number in range(10_000):
        it.fail(DATA._replace(text=f"no {number}"), [number])
    assert len(it._runs) <= 200
