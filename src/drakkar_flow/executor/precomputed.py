"""Tasks that bring their result along."""

from __future__ import annotations

from drakkar_flow.executor.base import Outcome
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask, PrecomputedResult

__all__ = ["precomputed"]


def precomputed(task: ExecutorTask) -> Outcome:
    """The outcome of a task whose `precomputed` is set: no slot, no process, no waiting.

    An exit code other than 0 is a failure, as it is for a program.

    >>> from drakkar_flow.model.task import PrecomputedResult
    >>> given = PrecomputedResult(stdout="hit", exit_code=0)
    >>> precomputed(ExecutorTask(task_id="t", source_offsets=[], precomputed=given)).stdout
    'hit'

    Raises:
        ValueError: when the task has no precomputed result.
    """
    given: object = task.precomputed
    if given is None:
        raise ValueError(f"task {task.task_id} has no precomputed result")
    if not isinstance(given, PrecomputedResult):  # it was assigned: what is wrong in the making is told there
        exception = f"precomputed must be a PrecomputedResult, not {type(given).__name__}"
        return ExecutorError(task=task, kind="internal", exception=exception)
    if given.exit_code == 0:
        return ExecutorResult(
            task=task, stdout=given.stdout, stderr=given.stderr, duration_seconds=given.duration_seconds
        )
    return ExecutorError(
        task=task,
        kind="nonzero_exit",
        exit_code=given.exit_code,
        stdout=given.stdout,
        stderr=given.stderr,
        duration_seconds=given.duration_seconds,
        executor="precomputed",
    )
