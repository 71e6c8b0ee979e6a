"""Leaving alone what fails again and again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.breaker import Breaker

COOLDOWN_S = 30.0


def attempt(breaker: Breaker, outcome: str, now: float = 0.0) -> bool:
    """Try once, if that is admitted."""
    ticket = breaker.admit(now)
    if ticket is None:
        return False
    if outcome == "ok":
        breaker.succeed(ticket)
    elif outcome == "fail":
        breaker.fail(ticket, now)
    else:
        breaker.release(ticket)
    return True


def opened(threshold: int = 3) -> Breaker:
    """A breaker that opened at 0."""
    breaker = Breaker(threshold, COOLDOWN_S)
    for _ in range(threshold):
        attempt(breaker, "fail")
    return breaker


def test_d36_only_failures_in_a_row_open_it() -> None:
    """D-36: fail, fail, ok, fail, fail leaves it closed; a third one in a row opens it and nothing more is admitted."""
    breaker = Breaker(3, COOLDOWN_S)
    for outcome in ("fail", "fail", "ok", "fail", "fail"):
        assert attempt(breaker, outcome)
    assert breaker.state == "closed"
    assert attempt(breaker, "fail")
    assert str(breaker.state) == "open"
    assert not attempt(breaker, "ok", now=COOLDOWN_S - 0.1)


def test_d37_after_the_cool_down_there_is_one_probe_only() -> None:
    """D-37: of two that come at once one is admitted; when it succeeds, all are."""
    breaker = opened()
    probe = breaker.admit(COOLDOWN_S)
    assert breaker.state == "half_open"
    assert breaker.admit(COOLDOWN_S) is None
    breaker.succeed(probe)
    assert str(breaker.state) == "closed"
    assert breaker.failures == 0


def test_d37_a_probe_without_an_outcome_makes_place_for_another() -> None:
    """D-37: a skipped batch or a hook that raised says nothing about the target: the next one probes, at once."""
    breaker = opened()
    probe = breaker.admit(COOLDOWN_S)
    breaker.release(probe)
    assert breaker.state == "open"
    assert breaker.admit(COOLDOWN_S) not in (None, probe)


def test_a_probe_that_fails_waits_for_a_whole_cool_down_again() -> None:
    """It takes one failure, not the threshold's number."""
    breaker = opened()
    attempt(breaker, "fail", now=40.0)
    assert breaker.state == "open"
    assert breaker.retry_at == 70.0
    assert breaker.admit(69.0) is None
    assert breaker.admit(70.0) is not None


def test_d38_a_batch_that_is_tried_three_times_is_one_failure() -> None:
    """D-38: a ticket stands for the batch, not for each of its attempts."""
    breaker = Breaker(3, COOLDOWN_S)
    ticket = breaker.admit(0.0)
    breaker.fail(ticket, 0.0)  # after the last attempt
    assert (breaker.state, breaker.failures) == ("closed", 1)


@pytest.mark.parametrize("late", ["succeed", "release"])
def test_who_began_before_it_opened_has_no_say_any_more(late: str) -> None:
    """A batch that was under way when the others failed neither closes it nor takes the probe's place."""
    breaker = Breaker(2, COOLDOWN_S)
    early = breaker.admit(0.0)
    attempt(breaker, "fail")
    attempt(breaker, "fail")
    getattr(breaker, late)(early)
    breaker.fail(early, 20.0)
    assert breaker.retry_at == COOLDOWN_S
    probe = breaker.admit(COOLDOWN_S)
    getattr(breaker, late)(early)
    assert breaker.state == "half_open"
    breaker.succeed(probe)
    breaker.fail(early, 31.0)
    assert breaker.failures == 0


def test_a_probe_that_lives_on_may_fail_later() -> None:
    """Its ticket stays good after it closed the breaker."""
    breaker = opened(1)
    probe = breaker.admit(COOLDOWN_S)
    breaker.succeed(probe)
    breaker.fail(probe, 50.0)
    assert breaker.state == "open"


@pytest.mark.parametrize(("threshold", "cooldown_s"), [(0, 1.0), (1, -1.0), (1, float("nan"))])
def test_what_makes_no_sense_is_refused(threshold: int, cooldown_s: float) -> None:
    """A breaker that could never close or open is a mistake."""
    with pytest.raises(ValueError, match="threshold"):
        Breaker(threshold, cooldown_s)


outcomes = st.lists(st.tuples(st.sampled_from(["ok", "fail", "neutral"]), st.floats(0, 40)), max_size=60)


@given(st.integers(1, 4), outcomes)
def test_one_after_the_other_it_behaves_as_described(threshold: int, steps: list[tuple[str, float]]) -> None:
    """Against a plain model: failures in a row, and the time of the last one."""
    breaker = Breaker(threshold, COOLDOWN_S)
    now, in_a_row, opened_at = 0.0, 0, None
    for outcome, pause in steps:
        now += pause
        admitted = attempt(breaker, outcome, now)
        assert admitted == (opened_at is None or now >= opened_at + COOLDOWN_S)
        if not admitted or outcome == "neutral":
            continue
        in_a_row = 0 if outcome == "ok" else in_a_row + 1
        if outcome == "ok":
            opened_at = None
        elif opened_at is not None or in_a_row >= threshold:
            opened_at = now
        assert breaker.state == ("closed" if opened_at is None else "open")


@given(st.lists(st.sampled_from(["ask", "ok", "fail", "neutral", "wait"]), max_size=80))
def test_at_most_one_probe_is_under_way(steps: list[str]) -> None:
    """Whatever is asked and answered, in any order, with tickets old and new."""
    breaker = Breaker(2, 10.0)
    now, tickets = 0.0, []
    for step in steps:
        if step == "wait":
            now += 6.0
        elif step == "ask":
            was_half_open = breaker.state == "half_open"
            ticket = breaker.admit(now)
            assert not (was_half_open and ticket is not None)
            tickets.append(ticket)
        elif tickets:
            ticket = tickets.pop(0)
            if step == "ok":
                breaker.succeed(ticket)
            elif step == "fail":
                breaker.fail(ticket, now)
            else:
                breaker.release(ticket)
