"""Log lines of hooks, periodic functions and annotations."""

from __future__ import annotations

from typing import Any

from drakkar_flow.kernel.causes import cause_text
from drakkar_flow.observe.events.annotations import AnnotationDropped
from drakkar_flow.observe.events.hooks import HookRan, PeriodicRan
from drakkar_flow.observe.log.line import LogLine
from drakkar_flow.observe.log.lines.common import Lines

__all__ = ["LINES"]

_WHERE_ANSWERED = "its records take the flow's failure route, see records_failed"
_AFTER_HOOK = {
    "on_startup": "the start fails",
    "on_ready": "the start fails",
    "on_assign": "the partitions are processed anyway",
    "on_revoke": "the partitions are released anyway",
    "on_error": "the task is skipped",
    "on_delivery_error": "the payloads become dead letters",
    "message_label": "the record is named by topic, partition and offset",
    "task_priority": "the task is queued by its offset",
}


def _hook_ran(e: HookRan) -> LogLine | None:
    if not e.error:
        return None
    fields = {"hook": e.hook, **e.about.fields(), "error": e.error}
    if e.exception is not None and (e.exception.__traceback__ is not None or str(e.exception) != e.error):
        fields |= _stack(e.exception)
    expect = _AFTER_HOOK.get(e.hook, _WHERE_ANSWERED)
    return LogLine("error", "handler_hook_failed", fields, expect, (e.hook,), cause_text(e.error))


def _periodic_ran(e: PeriodicRan) -> LogLine | None:
    if not e.error:
        return None
    fields = {"name": e.name, "error": e.error, **_stack(e.exception)}
    if e.stopped:
        return LogLine("error", "periodic_task_stopped", fields, "it does not run again; the flow continues")
    expect = "it runs again after its interval"
    return LogLine("error", "periodic_task_failed", fields, expect, (e.name,), cause_text(e.error))


def _annotation_dropped(e: AnnotationDropped) -> LogLine:
    expect = "only the annotation is lost; make it smaller, or use types that JSON has"
    return LogLine("warning", "annotation_dropped", {"kind": e.kind, "reason": e.reason}, expect, (e.reason,))


def _stack(exception: BaseException | None) -> dict[str, Any]:
    """Return the field that adds the stack of an exception to a line."""
    return {"exc_info": exception} if exception is not None else {}


LINES: Lines = {HookRan: _hook_ran, PeriodicRan: _periodic_ran, AnnotationDropped: _annotation_dropped}
