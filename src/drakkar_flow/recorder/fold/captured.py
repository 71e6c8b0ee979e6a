"""Captures: the parts of an event that wait to be written, without exceptions and large outputs. Pure.

They are made on the thread that emits.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import msgspec

from drakkar_flow.model.task import ExecutorError, ExecutorResult
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.context import NO_CONTEXT, EventContext
from drakkar_flow.observe.events.executor import ChildEnded
from drakkar_flow.observe.events.hooks import HookRan, PeriodicRan
from drakkar_flow.observe.events.lifecycle import FlowFailed, ListenerFailed
from drakkar_flow.observe.events.records import RecordsFailed
from drakkar_flow.observe.events.sinks import DeadLetterFailed, DeliveriesFailed, DeliveryRetried
from drakkar_flow.observe.events.source import CommitFailed, ConsumerError
from drakkar_flow.observe.events.tasks import LongTaskRan, RetriesExhausted, TaskFailed
from drakkar_flow.recorder.fold.faults import Fault

__all__ = ["CAPTURES", "MAX_STREAM", "Outputs", "Trouble", "outputs_of"]

MAX_STREAM = 64 * 1024
"""Bytes of a stream that are kept: half of them from its begin, half from its end."""

_HALF = MAX_STREAM // 2
_TAIL = 600


class Trouble(msgspec.Struct, frozen=True, gc=False):
    """A failure: its fault, and the event `kind` with its details."""

    kind: str
    fault: Fault
    about: EventContext
    detail: dict[str, Any]
    count: int = 1
    consequence: bool = False
    """True if the failure behind it is a fault already."""
    timed: tuple[str, str, float] | None = None
    """Kind and text of the name that the duration in seconds of the failed call counts under."""


class Outputs(msgspec.Struct, frozen=True, gc=False):
    """Streams of one attempt, by name: the kept bytes, and the size of the whole."""

    task_id: str
    streams: tuple[tuple[str, bytes, int], ...]

    @property
    def size(self) -> int:
        """Number of kept bytes."""
        return sum(len(kept) for _, kept, _ in self.streams)


def outputs_of(outcome: ExecutorError | ExecutorResult) -> Outputs:
    """Return head and tail of stdin, stdout and stderr of an attempt; empty streams are left out."""
    given = {"stdin": outcome.task.stdin, "stdout": outcome.stdout, "stderr": outcome.stderr}
    streams = tuple([(name, *_kept(stream)) for name, stream in given.items() if stream])
    return Outputs(outcome.task.task_id, streams)


def _kept(stream: str | bytes) -> tuple[bytes, int]:
    if len(stream) > MAX_STREAM:
        head, tail = stream[:_HALF], stream[-_HALF:]
        return _bytes(head)[:_HALF] + _bytes(tail)[-_HALF:], len(stream)
    data = _bytes(stream)
    return (data, len(data)) if len(data) <= MAX_STREAM else (data[:_HALF] + data[-_HALF:], len(data))


def _bytes(stream: str | bytes) -> bytes:
    return stream.encode(errors="replace") if isinstance(stream, str) else stream


def _task_failed(event: TaskFailed) -> Trouble:
    error = event.error
    detail = {
        "task_id": error.task.task_id,
        "kind": error.kind,
        "exit_code": error.exit_code,
        "exception": error.exception,
        "attempt": error.attempt,
        "duration_s": error.duration_seconds,
        "pid": error.pid,
        "command": [each[:_TAIL] for each in error.command[:50]],
        "stderr": error.stderr[-_TAIL:],
        "labels": error.task.labels,
    }
    return Trouble("task_failed", _fault_of(error), event.about, detail)


def _fault_of(error: ExecutorError) -> Fault:
    program = PurePath(error.command[0]).name if error.command else error.task.executor
    what = f"exit {error.exit_code}" if error.kind == "nonzero_exit" else error.kind
    what = f"signal {error.signal}" if error.kind == "signal" else what
    last = error.stderr[-_TAIL:].rstrip().rpartition("\n")[2]
    return Fault("task", program, what, error.exception or last)


def _retries_exhausted(event: RetriesExhausted) -> Trouble:
    fault = Fault("retries", "", "", "all attempts failed") if event.error is None else _fault_of(event.error)
    detail = {"task_id": event.task_id, "attempts": event.attempts, "dead": event.dead}
    return Trouble("retries_exhausted", fault._replace(kind="retries"), event.about, detail, consequence=True)


def _records_failed(event: RecordsFailed) -> Trouble:
    fault = Fault(event.kind, event.stage, _class_in(event.error), event.cause or event.error[:_TAIL])
    detail = {
        "kind": event.kind,
        "stage": event.stage,
        "count": event.count,
        "error": event.error[:4096],
        "label": event.label,
        "policy": event.policy,
    }
    return Trouble("records_failed", fault, event.about, detail, event.count, event.kind in ("task", "sink"))


def _hook_ran(event: HookRan) -> Trouble | HookRan:
    if not event.error:
        return event
    fault = Fault("hook", event.hook, type(event.exception).__name__, event.error[:_TAIL], _frame(event.exception))
    detail = {"hook": event.hook, "error": event.error[:4096], "frame": fault.frame}
    timed = None if event.duration_s is None else ("hook", event.hook, event.duration_s)
    return Trouble("hook_failed", fault, event.about, detail, timed=timed)


def _periodic_ran(event: PeriodicRan) -> Trouble | PeriodicRan:
    if not event.error:
        return event
    frame = _frame(event.exception)
    fault = Fault("periodic", event.name, type(event.exception).__name__, event.error[:_TAIL], frame)
    detail = {"name": event.name, "error": event.error[:4096], "stopped": event.stopped, "frame": frame}
    return Trouble("periodic_failed", fault, NO_CONTEXT, detail, timed=("periodic", event.name, event.duration_s))


def _delivery(kind: str) -> Callable[[Any], Trouble]:
    def captured(event: DeliveriesFailed | DeliveryRetried) -> Trouble:
        sink = f"{event.sink_type}:{event.sink_name}"
        attempts = event.attempts if isinstance(event, DeliveriesFailed) else event.attempt
        detail = {"sink": sink, "count": event.count, "error": event.error[:4096], "attempts": attempts}
        fault = Fault("sink", sink, _class_in(event.error), event.error[:_TAIL])
        return Trouble(kind, fault, event.about, detail, event.count if kind == "delivery_failed" else 1)

    return captured


def _dead_letter_failed(event: DeadLetterFailed) -> Trouble:
    detail = {"count": event.count, "error": event.error[:4096], "dropped": event.dropped}
    return Trouble("dead_letter_failed", Fault("dlq", "", "", event.error[:_TAIL]), event.about, detail)


def _source(kind: str) -> Callable[[Any], Trouble]:
    def captured(event: CommitFailed | ConsumerError | FlowFailed) -> Trouble:
        text = event.reason if isinstance(event, FlowFailed) else event.error
        return Trouble(kind, Fault(kind, "", "", text[:_TAIL]), NO_CONTEXT, {"error": text[:4096]})

    return captured


def _child_ended(event: ChildEnded) -> Trouble | ChildEnded:
    if not event.failed:
        return event
    fault = Fault("child", event.executor_name, "", event.reason[:_TAIL])
    return Trouble("child_failed", fault, NO_CONTEXT, msgspec.to_builtins(event))


def _listener_failed(event: ListenerFailed) -> Trouble:
    fault = Fault("listener", event.listener, _class_in(event.error), event.error[:_TAIL])
    return Trouble("listener_failed", fault, NO_CONTEXT, msgspec.to_builtins(event))


def _class_in(error: str) -> str:
    """Return the class of an exception at the begin of a text, else an empty text.

    >>> _class_in("ValueError: no number"), _class_in("no such host")
    ('ValueError', '')
    """
    name = error.partition(":")[0]
    return name if name.replace(".", "").isidentifier() and ":" in error else ""


def _frame(exception: BaseException | None) -> str:
    """Return the function that raised, as module:function."""
    trace = getattr(exception, "__traceback__", None)
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    frame = trace.tb_frame
    return f"{frame.f_globals.get('__name__', '?')}:{frame.f_code.co_qualname}"


CAPTURES: dict[type[Event], Callable[[Any], object]] = {
    TaskFailed: _task_failed,
    RetriesExhausted: _retries_exhausted,
    RecordsFailed: _records_failed,
    HookRan: _hook_ran,
    PeriodicRan: _periodic_ran,
    DeliveriesFailed: _delivery("delivery_failed"),
    DeliveryRetried: _delivery("delivery_retried"),
    DeadLetterFailed: _dead_letter_failed,
    CommitFailed: _source("commit_failed"),
    ConsumerError: _source("consumer_error"),
    FlowFailed: _source("flow_failed"),
    ChildEnded: _child_ended,
    ListenerFailed: _listener_failed,
    LongTaskRan: lambda event: outputs_of(event.result),
}
"""Events that are replaced, because they hold exceptions or outputs; all others are kept as they are."""
