"""Log lines of tasks."""

from __future__ import annotations

from typing import Any

from drakkar_flow.kernel.causes import cause_text
from drakkar_flow.model.task import ExecutorError
from drakkar_flow.observe.events.task_causes import cause_of_task
from drakkar_flow.observe.events.tasks import DuplicateTasks, RetriesExhausted, TaskFailed, TaskFellBack, TaskRetried
from drakkar_flow.observe.log.line import LogLine
from drakkar_flow.observe.log.lines.common import UNLESS_HELD, Lines, executor_fields

__all__ = ["LINES"]

_STDERR = 2048  # characters from the end
_KEY = 128


def _task_failed(e: TaskFailed) -> LogLine:
    fields = {**e.about.fields(), "task_id": e.error.task.task_id, **_error(e.error), "attempt": e.error.attempt}
    if e.key is not None:
        fields["key"] = e.key[:_KEY].decode(errors="backslashreplace")
    section = f"executors.{name}" if (name := e.error.task.executor) not in ("", "default") else "executor"
    expect = f"it is retried if {section}.retry allows it, else on_error decides"
    if e.error.kind == "nonzero_exit":
        expect += f"; if {e.error.exit_code} means success, add it to {section}.ok_exit_codes"
    return LogLine("warning", "executor_task_failed", fields, expect, (e.error.kind,), cause_of_task(e.error))


def _task_retried(e: TaskRetried) -> LogLine:
    fields = {**e.about.fields(), "task_id": e.task_id, "attempt": e.attempt, "delay_s": round(e.delay_s, 3)}
    return LogLine("info", "executor_task_retried", fields, key=())


def _retries_exhausted(e: RetriesExhausted) -> LogLine:
    expect = f"its records become dead letters, {UNLESS_HELD}" if e.dead else "it is skipped, and its records continue"
    fields = {**e.about.fields(), "task_id": e.task_id, "attempts": e.attempts}
    if e.error is not None:
        fields |= _error(e.error)
    cause = cause_of_task(e.error) if e.error is not None else ""
    return LogLine("warning", "max_retries_exceeded", fields, expect, (), cause)


def _duplicate_tasks(e: DuplicateTasks) -> LogLine:
    expect = "all of them run; leave out those in pending.pending_task_ids, or give each task a unique id"
    fields = {
        **e.about.fields(),
        "topic": e.topic_partition[0],
        "partition": e.topic_partition[1],
        "count": e.count,
        "task_id": e.task_id,
    }
    return LogLine("warning", "duplicate_task_id_in_pending", fields, expect, ())


def _task_fell_back(e: TaskFellBack) -> LogLine:
    fields = {"task_id": e.task_id, **executor_fields(e.executor_name), "offsets": list(e.offsets), "reason": e.reason}
    expect = "it runs as a separate process"
    return LogLine("warning", "executor_task_fell_back", fields, expect, (e.executor_name,), cause_text(e.reason))


def _error(error: ExecutorError) -> dict[str, Any]:
    """Return the command, its exit and the end of its stderr."""
    fields: dict[str, Any] = {"kind": error.kind, "executor": error.executor, "executor_name": error.task.executor}
    fields |= {"program": error.command[0] if error.command else "", "pid": error.pid}
    fields |= {"exit_code": error.exit_code, "signal": error.signal, "error": error.reason}
    fields |= {"duration_s": round(error.duration_seconds, 3), "stderr": error.stderr[-_STDERR:]}
    return {name: value for name, value in fields.items() if value not in (None, "")}


LINES: Lines = {
    TaskFailed: _task_failed,
    TaskRetried: _task_retried,
    RetriesExhausted: _retries_exhausted,
    DuplicateTasks: _duplicate_tasks,
    TaskFellBack: _task_fell_back,
}
