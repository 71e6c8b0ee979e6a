"""Results of precomputed tasks."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from drakkar_flow.executor.base import TaskOutcome
from drakkar_flow.model.precomputed import PrecomputedResult
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask, decode_output

__all__ = ["precomputed"]


def precomputed(task: ExecutorTask, ok_exit_codes: Collection[int] = (0,)) -> TaskOutcome:
    """Return the result of a task with `precomputed`: no slot, no process, no wait.

    An exit code that is not among the task's `ok_exit_codes`, or without any not among `ok_exit_codes`, is a failure,
    as for a program.

    >>> from drakkar_flow.model.precomputed import PrecomputedResult
    >>> given = PrecomputedResult(stdout="hit", exit_code=0)
    >>> precomputed(ExecutorTask(task_id="t", source_offsets=[], precomputed=given)).stdout
    'hit'

    Raises:
        ValueError: if the task has no precomputed result.
    """
    given: Any = task.precomputed
    if (
        type(given) is PrecomputedResult
        and type(given.stdout) is type(given.stderr) is str
        and type(given.exit_code) is int
        and given.exit_code in (task.ok_exit_codes or ok_exit_codes)
    ):  # most, and so cheaper
        return ExecutorResult(
            task=task,
            exit_code=given.exit_code,
            stdout=given.stdout,
            stderr=given.stderr,
            duration_seconds=given.duration_seconds,
        )
    if given is None:
        raise ValueError(f"task {task.task_id} has no precomputed result")
    return _judged(task, given, ok_exit_codes)


def _judged(task: ExecutorTask, given: Any, ok_exit_codes: Collection[int]) -> TaskOutcome:
    """Return the result of values that may be a failure, or of wrong types."""
    if not isinstance(given, PrecomputedResult):  # it was assigned: the constructor reports its own errors
        exception = f"precomputed must be a PrecomputedResult, not {type(given).__name__}"
        return ExecutorError(task=task, kind="internal", exception=exception)
    stdout: Any = given.stdout
    stderr: Any = given.stderr
    exit_code: Any = given.exit_code
    raw_stdout = raw_stderr = None
    if isinstance(stdout, bytes):
        stdout, raw_stdout = decode_output(stdout)
    if isinstance(stderr, bytes):
        stderr, raw_stderr = decode_output(stderr)
    if not (isinstance(stdout, str) and isinstance(stderr, str) and isinstance(exit_code, int)):
        exception = "precomputed must have text or bytes as stdout and stderr, and a number as exit_code"
        return ExecutorError(task=task, kind="internal", exception=exception)
    took_s = given.duration_seconds
    output: dict[str, Any] = {"stdout": stdout, "stderr": stderr, "raw_stdout": raw_stdout, "raw_stderr": raw_stderr}
    if exit_code in (task.ok_exit_codes or ok_exit_codes):
        return ExecutorResult(task=task, exit_code=exit_code, duration_seconds=took_s, **output)
    error = ExecutorError(task=task, exit_code=exit_code, duration_seconds=took_s, **output)
    error.executor = "precomputed"
    return error
