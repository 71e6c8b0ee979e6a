"""From what a child answered, or did not, to the outcome of a task. Pure."""

from __future__ import annotations

from drakkar_flow.config.limits import LimitsConfig
from drakkar_flow.executor.base import Outcome
from drakkar_flow.executor.capture import cut_text
from drakkar_flow.executor.confine import limit_met
from drakkar_flow.executor.persistent.dialect import Answer
from drakkar_flow.model.task import ErrorKind, ExecutorError, ExecutorResult, ExecutorTask

__all__ = ["answered", "capped", "failed", "timed_out"]


def answered(
    task: ExecutorTask, answer: Answer, pid: int, took_s: float, caps: tuple[int, int], limits: LimitsConfig
) -> Outcome:
    """The outcome of a task that was answered; `caps` bound stdout and stderr in bytes (0 = no cap)."""
    stdout, stderr = answer.stdout, answer.stderr
    stdout_cut = stderr_cut = False
    if caps[0] and len(stdout) * 4 > caps[0]:
        stdout, stdout_cut = capped(stdout, caps[0])
    if caps[1] and len(stderr) * 4 > caps[1]:
        stderr, stderr_cut = capped(stderr, caps[1])
    if answer.exit_code == 0:
        return ExecutorResult(
            task=task,
            stdout=stdout,
            stderr=stderr,
            duration_seconds=took_s,
            pid=pid,
            stdout_truncated=stdout_cut,
            stderr_truncated=stderr_cut,
        )
    return ExecutorError(
        task=task,
        exit_code=answer.exit_code,
        exception=limit_met(limits, answer.exit_code, stderr),
        stdout=stdout,
        stderr=stderr,
        pid=pid,
        duration_seconds=took_s,
        stdout_truncated=stdout_cut,
        stderr_truncated=stderr_cut,
    )


def failed(task: ExecutorTask, kind: ErrorKind, reason: str, pid: int | None, took_s: float) -> ExecutorError:
    """The outcome of a task that was not answered."""
    return ExecutorError(task=task, kind=kind, exception=reason, pid=pid, duration_seconds=took_s)


def capped(text: str, limit: int) -> tuple[str, bool]:
    """Cut `text` to at most `limit` bytes of UTF-8; says whether anything was lost.

    >>> capped("aé", 2), capped("aé", 3)
    (('a', True), ('aé', False))
    """
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return text, False
    return cut_text(data, limit).decode("utf-8", "replace"), True


def timed_out(task: ExecutorTask, timeout_s: float, pid: int, took_s: float) -> ExecutorError:
    """The outcome of a task whose answer did not come in time, in the words of the one-shot executor."""
    error = failed(task, "timeout", f"Timeout after {timeout_s:g}s", pid, took_s)
    error.stderr = "task timed out"
    return error
