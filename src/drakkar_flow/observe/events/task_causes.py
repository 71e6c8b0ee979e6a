"""Cause of a failed task, used to limit repeated log lines. Pure."""

from __future__ import annotations

from pathlib import PurePath

from drakkar_flow.kernel.causes import cause_text
from drakkar_flow.model.task import ExecutorError

__all__ = ["cause_of_task"]

_MAX_STDERR = 600


def cause_of_task(error: ExecutorError) -> str:
    """Return the program, its exit, and the last line of its stderr.

    >>> from drakkar_flow.model.task import ExecutorTask
    >>> task = ExecutorTask(task_id="t", source_offsets=[1])
    >>> cause_of_task(ExecutorError(task=task, exit_code=2, stderr="grep: /a: No such file\\n", command=["/bin/grep"]))
    'grep: exit code 2: grep: /...: No such file'
    """
    last = error.stderr.rstrip()[-_MAX_STDERR:].rpartition("\n")[2]
    program = PurePath(error.command[0]).name if error.command else ""
    ending = error.reason if error.exception is None else cause_text(error.exception)
    return ": ".join(filter(None, (program, ending, cause_text(last))))
