"""Tasks that bring their result along."""

from __future__ import annotations

import pytest

from drakkar_flow.executor.precomputed import precomputed
from drakkar_flow.model.precomputed import PrecomputedResult
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask


def task(given: PrecomputedResult | None) -> ExecutorTask:
    """A task with the given result."""
    return ExecutorTask(task_id="t", source_offsets=[1], precomputed=given)


def test_d27_exit_code_zero_is_a_result_without_a_process() -> None:
    """The given output and duration come back, with no pid."""
    given = task(PrecomputedResult(stdout="out", stderr="err", duration_seconds=1.5))
    assert precomputed(given) == ExecutorResult(task=given, stdout="out", stderr="err", duration_seconds=1.5)


def test_d27_another_exit_code_is_a_failure() -> None:
    """A precomputed failure looks like that of a program."""
    given = task(PrecomputedResult(stdout="out", stderr="err", exit_code=2, duration_seconds=0.5))
    assert precomputed(given) == ExecutorError(
        task=given,
        kind="nonzero_exit",
        exit_code=2,
        stdout="out",
        stderr="err",
        duration_seconds=0.5,
        executor="precomputed",
    )


def test_a_task_without_a_result_is_refused() -> None:
    """Only precomputed tasks may take this path."""
    with pytest.raises(ValueError, match="t has no precomputed result"):
        precomputed(task(None))
