"""Which failures are retried by themselves, and when retries end."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.kernel.retry import RetryBound, RetryPolicy
from drakkar_flow.model.task import ErrorKind, ExecutorError, ExecutorTask

BACKOFF = Backoff(1.0, 8.0)


def error(kind: ErrorKind = "nonzero_exit", exit_code: int | None = None) -> ExecutorError:
    """A failure."""
    return ExecutorError(task=ExecutorTask(task_id="t", source_offsets=[1]), kind=kind, exit_code=exit_code)


@pytest.mark.parametrize(
    ("rules", "failure", "transient"),
    [
        ({}, error(exit_code=75), False),
        ({}, error("timeout"), False),
        ({"kinds": {"timeout"}}, error("timeout"), True),
        ({"kinds": {"timeout"}}, error(exit_code=1), False),
        ({"exit_codes": {75}}, error(exit_code=75), True),
        ({"exit_codes": {75}}, error(exit_code=76), False),
        ({"kinds": {"nonzero_exit"}, "never_exit_codes": {2}}, error(exit_code=1), True),
        ({"kinds": {"nonzero_exit"}, "never_exit_codes": {2}}, error(exit_code=2), False),
        ({"exit_codes": {2}, "never_exit_codes": {2}}, error(exit_code=2), False),
        ({"kinds": {"launch_failure"}, "never_exit_codes": {2}}, error("launch_failure"), True),
    ],
)
def test_a_failure_is_transient_by_its_kind_or_exit_code(
    rules: dict[str, Any], failure: ExecutorError, transient: bool
) -> None:
    """Nothing is unless it is named, and never_exit_codes outweighs the others."""
    assert RetryPolicy(BACKOFF, 3, **rules).is_transient(failure) is transient


@given(
    max_retries=st.integers(0, 9),
    had=st.integers(0, 20),
    max_elapsed_s=st.just(0.0) | st.floats(0.1, 50),
    elapsed_s=st.floats(0, 100),
    seed=st.integers(),
)
def test_no_pause_goes_beyond_what_a_task_gets(
    max_retries: int, had: int, max_elapsed_s: float, elapsed_s: float, seed: int
) -> None:
    """A retry is within the count, its pause within the ceiling of its attempt, and its start within the time."""
    policy = RetryPolicy(BACKOFF, max_retries, max_elapsed_s)
    pause_s = policy.pause_s(had, elapsed_s, random.Random(seed).random)
    if pause_s is None:
        assert had >= max_retries or elapsed_s + BACKOFF.ceiling_s(had + 1) > max_elapsed_s > 0
    else:
        assert had < max_retries
        assert 0 <= pause_s <= BACKOFF.ceiling_s(had + 1)
        assert max_elapsed_s == 0 or elapsed_s + pause_s <= max_elapsed_s


@given(st.integers(0, 5), st.floats(0, 100), st.integers(0, 9), st.floats(0, 200))
def test_a_bound_is_spent_at_either_end_and_stays_spent(
    times: int, elapsed_s: float, retries: int, waited_s: float
) -> None:
    """An end of 0 is none."""
    bound = RetryBound(times, elapsed_s)
    over = (times > 0 and retries >= times) or (elapsed_s > 0 and waited_s >= elapsed_s)
    assert bool(bound.spent(retries, waited_s)) is over
    if over:
        assert bound.spent(retries + 1, waited_s + 1)
