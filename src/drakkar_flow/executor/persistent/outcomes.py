"""Results of tasks, from the answers of children or their absence. Pure."""

from __future__ import annotations

from collections.abc import Collection

from drakkar_flow.config.sections.limits import LimitsConfig
from drakkar_flow.executor.base import TaskOutcome, section_of
from drakkar_flow.executor.capture import cut_text
from drakkar_flow.executor.persistent.codec import Answer
from drakkar_flow.executor.rlimits import limit_met
from drakkar_flow.model.task import ErrorKind, ExecutorError, ExecutorResult, ExecutorTask, decode_output

__all__ = ["answered", "capped", "failed", "timed_out"]


def answered(
    task: ExecutorTask,
    answer: Answer,
    pid: int,
    took_s: float,
    caps: tuple[int, int],
    limits: LimitsConfig,
    ok_exit_codes: Collection[int] = (0,),
) -> TaskOutcome:
    """Return the result of an answered task; `caps` limit stdout and stderr in bytes (0 = no limit)."""
    stdout, raw, stderr = answer.stdout, answer.raw_stdout, answer.stderr
    stdout_cut = stderr_cut = False
    if caps[0] and len(stdout) * 4 > caps[0]:
        stdout, raw, stdout_cut = capped(stdout, caps[0], raw)
    if caps[1] and len(stderr) * 4 > caps[1]:
        stderr, _, stderr_cut = capped(stderr, caps[1])
    if answer.exit_code in (task.ok_exit_codes or ok_exit_codes):
        return ExecutorResult(
            task=task,
            exit_code=answer.exit_code,
            stdout=stdout,
            stderr=stderr,
            duration_seconds=took_s,
            pid=pid,
            stdout_truncated=stdout_cut,
            stderr_truncated=stderr_cut,
            raw_stdout=raw,
        )
    return ExecutorError(
        task=task,
        exit_code=answer.exit_code,
        exception=limit_met(limits, answer.exit_code, stderr, section_of(task)),
        stdout=stdout,
        stderr=stderr,
        pid=pid,
        duration_seconds=took_s,
        stdout_truncated=stdout_cut,
        stderr_truncated=stderr_cut,
        raw_stdout=raw,
    )


def failed(task: ExecutorTask, kind: ErrorKind, reason: str, pid: int | None, took_s: float) -> ExecutorError:
    """Return the result of a task without answer."""
    return ExecutorError(task=task, kind=kind, exception=reason, pid=pid, duration_seconds=took_s)


def capped(text: str, limit: int, raw: bytes | None = None) -> tuple[str, bytes | None, bool]:
    """Cut a child's output to at most `limit` bytes; returns True if bytes were lost.

    >>> capped("aé", 2), capped("aé", 3)
    (('a', None, True), ('aé', None, False))
    """
    data = text.encode("utf-8", "replace") if raw is None else raw
    if len(data) <= limit:
        return text, raw, False
    return *decode_output(cut_text(data, limit)), True


def timed_out(task: ExecutorTask, timeout_s: float, pid: int, took_s: float) -> ExecutorError:
    """Return the result of a task whose answer timed out, with the texts of the one-shot executor."""
    error = failed(task, "timeout", f"Timeout after {timeout_s:g}s", pid, took_s)
    error.stderr = "task timed out"
    return error
