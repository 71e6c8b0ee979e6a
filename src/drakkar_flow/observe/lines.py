"""Log lines of events. Event names are py-drakkar's where it had them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drakkar_flow.kernel.causes import cause_text
from drakkar_flow.model.record import Lane
from drakkar_flow.model.task import ExecutorError
from drakkar_flow.observe import attempts, vitals
from drakkar_flow.observe import events as ev
from drakkar_flow.observe import executor_events as xev
from drakkar_flow.observe import group_events as gev
from drakkar_flow.observe.causes import cause_of_task
from drakkar_flow.observe.executor_lines import (
    breaker,
    child_ended,
    child_logged,
    child_started,
    host_limit_low,
    host_shortage,
    named,
)
from drakkar_flow.observe.line import Level, Line

__all__ = ["LINES", "Level", "Line"]


_NAMED = 10  # partitions, at most, in lines about trouble
_READ_AGAIN = "what was not committed will be read again after restart"
_STATES: dict[str, tuple[Level, str]] = {
    "starting": ("info", "connects to everything, then subscribes"),
    "running": ("info", ""),
    "draining": ("info", "no more records are read; work in flight may finish, then the last commit is made"),
    "stopped": ("info", ""),
    "failed": ("error", _READ_AGAIN),
}


def _state(e: ev.StateChanged) -> Line:
    level, expect = _STATES.get(e.state, ("info", ""))
    given = {"flow": e.flow, "config": e.config, "reason": e.reason}
    fields = {name: value for name, value in given.items() if value}
    return Line(level, f"drakkar_{e.state}", fields, expect)


def _flow_failed(e: ev.FlowFailed) -> Line:
    return Line("error", "flow_failed", {"reason": e.reason}, f"the process stops; {_READ_AGAIN}")


def _broker(e: ev.BrokerStateChanged) -> Line:
    if e.up:
        return Line("info", "broker_up", {"reason": e.reason} if e.reason else {}, key=())
    expect = "reading and committing resume by themselves when a broker answers"
    return Line("warning", "broker_down", {"reason": e.reason}, expect, (), cause_text(e.reason))


def _consumer_error(e: ev.ConsumerError) -> Line:
    return Line("warning", "consumer_error", {"error": e.error}, "the consumer goes on", (), cause_text(e.error))


def _client_logged(e: gev.ClientLogged) -> Line:
    level: Level = "error" if e.level >= 40 else "warning" if e.level >= 30 else "info" if e.level >= 20 else "debug"
    fields = {"facility": e.facility, "client": e.client, "text": e.text}
    return Line(level, "kafka_client_log", fields, "the client goes on", (e.facility,))


def _topic_recreated(e: gev.TopicRecreated) -> Line:
    expect = "its partitions are read from their beginning; what was in flight of the former topic is dropped"
    return Line("warning", "topic_recreated", {"topic": e.topic, "partitions": _names(e.lanes)}, expect)


def _assignment_awaited(e: gev.AssignmentAwaited) -> Line:
    fields = {"consumer_group": e.group, "waited_s": round(e.waited_s, 3), "at_most_s": e.session_timeout_s}
    expect = (
        "partitions come when members that drain have finished, or when the session of a member that ended without "
        f"leaving is over, {e.session_timeout_s:g} s after its last sign; none come while there are more members than "
        "partitions"
    )
    return Line("info", "assignment_awaited", fields, expect)


def _assigned(e: ev.PartitionsAssigned) -> Line:
    return Line("info", "partitions_assigned", {"partitions": _names(e.lanes), "total": e.total})


def _revoked(e: ev.PartitionsRevoked) -> Line:
    fields = {"partitions": _names(e.lanes), "total": e.total, "unfinished": e.unfinished}
    expect = "unfinished records will be read again by the partitions' next owner" if e.unfinished else ""
    if e.lost:
        return Line("warning", "partitions_lost", fields, expect or "nothing more is committed for them here")
    return Line("info", "partitions_revoked", fields, expect)


def _intake(e: ev.IntakePaused) -> Line:
    event = "intake_paused" if e.paused else "intake_resumed"
    return Line("debug", event, {"in_flight": e.in_flight}, key=())


_UNLESS_HELD = "unless the brake holds them"
_ROUTES = {
    "dlq": f"they become dead letters, {_UNLESS_HELD}",
    "skip": f"they are dropped and count as finished, {_UNLESS_HELD}",
    "fail": "the flow stops; their offsets are not committed",
    "pass": "they go on with payload None and the error in parse_error",
}


def _records_failed(e: ev.RecordsFailed) -> Line:
    fields = {"kind": e.kind, "stage": e.stage, "topic": e.lane[0], "partition": e.lane[1], **e.about.fields()}
    cause = e.cause or cause_text(e.error)
    fields |= {"count": e.count, "label": e.label, "error": e.error, "cause": cause}
    expect = f"given up: skipped ({e.decided_by})" if e.decided_by else _ROUTES.get(e.policy, _ROUTES["dlq"])
    return Line("warning", "records_failed", fields, expect, (e.kind, e.stage), cause)


def _committed(e: ev.Committed) -> Line:
    return Line("debug", "offsets_committed", {"offsets": {_name(lane): offset for lane, offset in e.offsets}})


def _commit_failed(e: ev.CommitFailed) -> Line:
    expect = "it is tried again; until then a restart would read finished records again"
    fields = {"partitions": _names(e.lanes[:_NAMED]), "error": e.error}
    return Line("warning", "commit_failed", fields, expect, (), cause_text(e.error))


_STDERR = 2048  # characters of its end
_KEY = 128


def _task_failed(e: attempts.TaskFailed) -> Line:
    fields = {**e.about.fields(), "task_id": e.error.task.task_id, **_error(e.error), "attempt": e.error.attempt}
    if e.key is not None:
        fields["key"] = e.key[:_KEY].decode(errors="backslashreplace")
    section = f"executors.{name}" if (name := e.error.task.executor) not in ("", "default") else "executor"
    expect = f"it is tried again where {section}.retry says so, else on_error decides what becomes of it"
    if e.error.kind == "nonzero_exit":
        expect += f"; if {e.error.exit_code} is a success of this program, add it to {section}.ok_exit_codes"
    return Line("warning", "executor_task_failed", fields, expect, (e.error.kind,), cause_of_task(e.error))


def _error(error: ExecutorError) -> dict[str, Any]:
    """What ran, how it ended and what it complained about."""
    fields: dict[str, Any] = {"kind": error.kind, "executor": error.executor, "executor_name": error.task.executor}
    fields |= {"program": error.command[0] if error.command else "", "pid": error.pid}
    fields |= {"exit_code": error.exit_code, "signal": error.signal, "error": error.reason}
    fields |= {"duration_s": round(error.duration_seconds, 3), "stderr": error.stderr[-_STDERR:]}
    return {name: value for name, value in fields.items() if value not in (None, "")}


def _duplicate_tasks(e: ev.DuplicateTasks) -> Line:
    expect = "they run beside each other; leave out those in pending.pending_task_ids, or give tasks ids of their own"
    fields = {**e.about.fields(), "topic": e.lane[0], "partition": e.lane[1], "count": e.count, "task_id": e.task_id}
    return Line("warning", "duplicate_task_id_in_pending", fields, expect, ())


def _retries_exhausted(e: attempts.RetriesExhausted) -> Line:
    expect = f"its records become dead letters, {_UNLESS_HELD}" if e.dead else "it is skipped, and its records move on"
    fields = {**e.about.fields(), "task_id": e.task_id, "attempts": e.attempts}
    if e.error is not None:
        fields |= _error(e.error)
    cause = cause_of_task(e.error) if e.error is not None else ""
    return Line("warning", "max_retries_exceeded", fields, expect, (), cause)


def _task_retried(e: attempts.TaskRetried) -> Line:
    fields = {**e.about.fields(), "task_id": e.task_id, "attempt": e.attempt, "delay_s": round(e.delay_s, 3)}
    return Line("info", "executor_task_retried", fields, key=())


def _task_fell_back(e: ev.TaskFellBack) -> Line:
    fields = {"task_id": e.task_id, **named(e), "offsets": list(e.offsets), "reason": e.reason}
    expect = "it runs as a separate process"
    return Line("warning", "executor_task_fell_back", fields, expect, (e.executor_name,), cause_text(e.reason))


def _unguarded(e: xev.ExecutorUnguarded) -> Line:
    expect = "everything goes on; should this process be killed, its programs run to their end"
    return Line("warning", "executor_unguarded", {**named(e), "reason": e.reason}, expect)


_WHERE_ANSWERED = "its records take the flow's failure route, see records_failed"
_AFTER_HOOK = {
    "on_startup": "the start fails",
    "on_ready": "the start fails",
    "on_assign": "the partitions are worked on all the same",
    "on_revoke": "the partitions are given up all the same",
    "on_error": "the task is skipped",
    "on_delivery_error": "the payloads become dead letters",
    "message_label": "the record is named by topic, partition and offset",
    "task_priority": "the task is queued by its offset",
}


def _hook_ran(e: ev.HookRan) -> Line | None:
    if not e.error:
        return None
    fields = {"hook": e.hook, **e.about.fields(), "error": e.error}
    if e.exception is not None and (e.exception.__traceback__ is not None or str(e.exception) != e.error):
        fields |= _stack(e.exception)
    expect = _AFTER_HOOK.get(e.hook, _WHERE_ANSWERED)
    return Line("error", "handler_hook_failed", fields, expect, (e.hook,), cause_text(e.error))


def _periodic_ran(e: ev.PeriodicRan) -> Line | None:
    if not e.error:
        return None
    fields = {"name": e.name, "error": e.error, **_stack(e.exception)}
    if e.stopped:
        return Line("error", "periodic_task_stopped", fields, "it is not run any more; everything else goes on")
    expect = "it is run again after its interval"
    return Line("error", "periodic_task_failed", fields, expect, (e.name,), cause_text(e.error))


def _annotation_dropped(e: ev.AnnotationDropped) -> Line:
    expect = "only the annotation is lost; make it smaller, or of what JSON can hold"
    return Line("warning", "annotation_dropped", {"kind": e.kind, "reason": e.reason}, expect, (e.reason,))


def _stack(exception: BaseException | None) -> dict[str, Any]:
    """What makes the log show where an exception was raised."""
    return {"exc_info": exception} if exception is not None else {}


def _delivery_retried(e: ev.DeliveryRetried) -> Line:
    fields = {**_sink(e), "attempt": e.attempt, "delay_s": round(e.delay_s, 3), "error": e.error}
    of = (e.sink_type, e.sink_name)
    return Line("warning", "sink_delivery_retry", fields, "tried again after delay_s", of, cause_text(e.error))


def _deliveries_failed(e: ev.DeliveriesFailed) -> Line:
    expect = "the sink's failure route decides: dead letter, skip or stop"
    fields = {**_sink(e), "attempts": e.attempts, "error": e.error}
    return Line("error", "sink_delivery_failed", fields, expect, (e.sink_type, e.sink_name), cause_text(e.error))


def _deliveries_skipped(e: ev.DeliveriesSkipped) -> Line:
    expect = "the payloads are dropped, their records count as finished"
    return Line("warning", "sink_delivery_skipped", _sink(e), expect, (e.sink_type, e.sink_name))


def _sink_circuit(e: ev.SinkCircuitChanged) -> Line:
    fields = {"sink_type": e.sink_type, "sink_name": e.sink_name, "failures": e.failures}
    if e.state != "open":
        return Line("info", f"sink_circuit_{e.state}", fields)
    meanwhile = "its deliveries wait" if e.waits else "its deliveries go where undeliverable ones go, unwritten"
    expect = f"{meanwhile}, until one batch, tried after the cool-down, is written"
    return Line("error", "sink_circuit_open", {**fields, "reason": e.reason}, expect)


def _dead_letters(e: ev.DeadLettersWritten) -> Line:
    expect = "their records count as finished; look into the dead letter topic"
    return Line("warning", "dlq_message_sent", {**e.about.fields(), "count": e.count}, expect, ())


def _dead_letter_failed(e: ev.DeadLetterFailed) -> Line:
    expect = (
        "they are given up and their offsets committed (dlq.on_failure: drop)"
        if e.dropped
        else "tried again; until then their offsets are not committed and would be read again after restart"
    )
    fields = {**e.about.fields(), "count": e.count, "error": e.error}
    return Line("error", "dlq_send_failed", fields, expect, (str(e.dropped),), cause_text(e.error))


def _suppressed(e: ev.DeliveriesSuppressed) -> Line:
    fields = {**e.about.fields(), "count": e.count}
    return Line("info", "deliveries_suppressed", fields, "their partitions' next owner reads them again", ())


_STALLS = {
    "partition": "nothing of it is committed until it moves; look at what the stacks wait for",
    "loop": "a hook blocks the event loop: everything waits for it; await instead, or use a thread",
    "engine": "a function of the flow blocks the engine: everything waits for it",
}


def _stalled(e: vitals.Stalled) -> Line:
    fields: dict[str, Any] = {"for_s": round(e.for_s, 3)}
    if e.lane is not None:
        fields |= {"topic": e.lane[0], "partition": e.lane[1], "offset": e.offset}
        fields |= {"waits_for": e.waits_for}
    cause = _name(e.lane) if e.lane is not None else ""
    return Line("error", f"{e.what}_stalled", {**fields, "stacks": dict(e.stacks)}, _STALLS[e.what], (), cause)


def _stall_ended(e: vitals.StallEnded) -> Line:
    lane = {"topic": e.lane[0], "partition": e.lane[1]} if e.lane is not None else {}
    cause = _name(e.lane) if e.lane is not None else ""
    return Line("info", f"{e.what}_moves_again", {**lane, "after_s": round(e.after_s, 3)}, key=(), cause=cause)


def _drained(e: ev.DrainFinished) -> Line:
    fields: dict[str, Any] = {
        "unfinished": e.unfinished,
        "uncommitted": e.uncommitted,
        "duration_s": round(e.duration_s, 3),
    }
    if e.unfinished == 0:
        return Line("info", "drain_finished", fields)
    fields["oldest"] = [f"{_name(lane)}:{offset}" for lane, offset in e.oldest[:_NAMED]]
    expect = "unfinished records will be read again after restart, or by the partitions' next owner"
    return Line("warning", "drain_timeout", fields, expect)


def _sink(e: ev.DeliveryRetried | ev.DeliveriesFailed | ev.DeliveriesSkipped) -> dict[str, Any]:
    return {"sink_type": e.sink_type, "sink_name": e.sink_name, **e.about.fields(), "count": e.count}


def _names(lanes: tuple[Lane, ...]) -> list[str]:
    return [_name(lane) for lane in lanes]


def _name(lane: Lane) -> str:
    return f"{lane[0]}:{lane[1]}"


LINES: dict[type[ev.Event], Callable[[Any], Line | None]] = {
    ev.StateChanged: _state,
    ev.FlowFailed: _flow_failed,
    ev.BrokerStateChanged: _broker,
    ev.ConsumerError: _consumer_error,
    gev.ClientLogged: _client_logged,
    gev.TopicRecreated: _topic_recreated,
    gev.AssignmentAwaited: _assignment_awaited,
    ev.PartitionsAssigned: _assigned,
    ev.PartitionsRevoked: _revoked,
    ev.IntakePaused: _intake,
    ev.RecordsFailed: _records_failed,
    ev.Committed: _committed,
    ev.CommitFailed: _commit_failed,
    attempts.TaskFailed: _task_failed,
    ev.DuplicateTasks: _duplicate_tasks,
    attempts.TaskRetried: _task_retried,
    attempts.RetriesExhausted: _retries_exhausted,
    ev.TaskFellBack: _task_fell_back,
    xev.ChildStarted: child_started,
    xev.ChildEnded: child_ended,
    xev.ChildLogged: child_logged,
    xev.ExecutorBreakerChanged: breaker,
    xev.ExecutorUnguarded: _unguarded,
    xev.HostShortage: host_shortage,
    xev.HostLimitLow: host_limit_low,
    ev.HookRan: _hook_ran,
    ev.PeriodicRan: _periodic_ran,
    ev.AnnotationDropped: _annotation_dropped,
    ev.DeliveryRetried: _delivery_retried,
    ev.DeliveriesFailed: _deliveries_failed,
    ev.DeliveriesSkipped: _deliveries_skipped,
    ev.SinkCircuitChanged: _sink_circuit,
    ev.DeadLettersWritten: _dead_letters,
    ev.DeadLetterFailed: _dead_letter_failed,
    ev.DeliveriesSuppressed: _suppressed,
    vitals.Stalled: _stalled,
    vitals.StallEnded: _stall_ended,
    ev.DrainFinished: _drained,
}
"""The line of each event that has one. Events of the hot path have none: metrics count them."""
