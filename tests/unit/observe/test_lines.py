"""Which events get a line, what it says, and how often."""

from __future__ import annotations

import pytest
import structlog

from drakkar_flow.model.task import ExecutorError, ExecutorTask
from drakkar_flow.observe import attempts, vitals
from drakkar_flow.observe import events as ev
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.lines import LINES
from drakkar_flow.observe.log import LogListener
from support.log_lines import read_lines as read

LANE = ("in", 3)
ERROR = ExecutorError(task=ExecutorTask(task_id="t", source_offsets=[1]), exit_code=1)
HOT = {
    ev.RecordsConsumed,
    ev.RecordsKnownFinished,
    ev.RecordsFinished,
    ev.TasksStarted,
    ev.TaskFinished,
    ev.TasksCompleted,
    ev.TasksPrecomputed,
    ev.HooksRan,
    ev.Offloaded,
    ev.Annotated,
    ev.WindowFinished,
    ev.DeliveriesWritten,
    vitals.Idled,
    vitals.LoopAnswered,
}


def test_every_event_has_a_line_or_is_hot(one_of_each):
    """For each event it is decided whether operators read of it; those of the hot path are only counted."""
    assert set(LINES) == {type(event) for event in one_of_each} - HOT


@pytest.mark.parametrize(
    ("event", "level", "name", "part"),
    [
        (ev.StateChanged("draining"), "info", "drakkar_draining", "the last commit"),
        (ev.StateChanged("failed", "boom"), "error", "drakkar_failed", "read again after restart"),
        (ev.FlowFailed("boom"), "error", "flow_failed", "read again after restart"),
        (ev.BrokerStateChanged(up=False, reason="x"), "warning", "broker_down", "resume by themselves"),
        (ev.BrokerStateChanged(up=True), "info", "broker_up", ""),
        (ev.ConsumerError("x"), "warning", "consumer_error", "goes on"),
        (ev.PartitionsAssigned((LANE,), 1), "info", "partitions_assigned", ""),
        (ev.PartitionsRevoked((LANE,), 0), "info", "partitions_revoked", ""),
        (ev.PartitionsRevoked((LANE,), 0, unfinished=2), "info", "partitions_revoked", "next owner"),
        (ev.PartitionsRevoked((LANE,), 0, lost=True), "warning", "partitions_lost", "nothing more is committed"),
        (ev.IntakePaused(paused=True, in_flight=9), "debug", "intake_paused", ""),
        (ev.IntakePaused(paused=False, in_flight=9), "debug", "intake_resumed", ""),
        (ev.RecordsFailed("hook", "collect", LANE, 3, "x", "l"), "warning", "records_failed", "dead letters"),
        (ev.RecordsFailed("decode", "decode", LANE, 3, "x", "l", "skip"), "warning", "records_failed", "dropped"),
        (ev.RecordsFailed("decode", "decode", LANE, 3, "x", "l", "fail"), "warning", "records_failed", "flow stops"),
        (ev.RecordsFailed("decode", "decode", LANE, 3, "x", "l", "pass"), "warning", "records_failed", "go on"),
        (ev.Committed(((LANE, 42),)), "debug", "offsets_committed", ""),
        (ev.CommitFailed("x"), "warning", "commit_failed", "tried again"),
        (attempts.TaskFailed(ERROR), "warning", "executor_task_failed", "on_error"),
        (
            ev.DuplicateTasks(LANE, 2, "t"),
            "warning",
            "duplicate_task_id_in_pending",
            "they run beside each other; leave out those in pending.pending_task_ids, or give tasks ids of their own",
        ),
        (attempts.TaskRetried("t", 1), "info", "executor_task_retried", ""),
        (attempts.RetriesExhausted("t", 4, dead=False), "warning", "max_retries_exceeded", "skipped"),
        (attempts.RetriesExhausted("t", 4, dead=True), "warning", "max_retries_exceeded", "dead letters"),
        (ev.HookRan("arrange", 0.1, "x"), "error", "handler_hook_failed", "failure route"),
        (ev.HookRan("on_error", 0.1, "x"), "error", "handler_hook_failed", "skipped"),
        (ev.HookRan("task_priority", None, "x"), "error", "handler_hook_failed", "by its offset"),
        (ev.PeriodicRan("beat", 0.1, "x"), "error", "periodic_task_failed", "after its interval"),
        (ev.PeriodicRan("beat", 0.1, "x", stopped=True), "error", "periodic_task_stopped", "not run any more"),
        (ev.AnnotationDropped("score", "too_large"), "warning", "annotation_dropped", "only the annotation"),
        (ev.DeliveryRetried("kafka", "out", 3, 1, 0.5, "x"), "warning", "sink_delivery_retry", "delay_s"),
        (ev.DeliveriesFailed("kafka", "out", 3, "x"), "error", "sink_delivery_failed", "dead letter"),
        (ev.DeliveriesSkipped("kafka", "out", 3), "warning", "sink_delivery_skipped", "dropped"),
        (ev.DeadLettersWritten(3), "warning", "dlq_message_sent", "dead letter topic"),
        (ev.DeadLetterFailed(3, "x", dropped=False), "error", "dlq_send_failed", "not committed"),
        (ev.DeadLetterFailed(3, "x", dropped=True), "error", "dlq_send_failed", "given up"),
        (ev.DrainFinished(0, 1.0), "info", "drain_finished", ""),
        (ev.DrainFinished(3, 1.0), "warning", "drain_timeout", "read again after restart"),
    ],
    ids=lambda it: type(it).__name__ if isinstance(it, ev.Event) else None,
)
def test_an_event_becomes_a_line_that_tells_what_comes_next(scene, event, level, name, part):
    """Each line has its level, its name, and where it matters what the operator may expect."""
    scene.bus.emit(event)
    (line,) = scene.lines
    assert (line["level"], line["event"]) == (level, name)
    assert part in line.get("expect", "")
    assert bool(part) == ("expect" in line)


@pytest.mark.parametrize(
    "event", [ev.HookRan("arrange", 0.1), ev.PeriodicRan("beat", 0.1), ev.TaskFinished("completed", "", 1, 0, 0)]
)
def test_what_went_well_is_not_logged(scene, event):
    """A hook that returned and a task that completed are counted, not told."""
    scene.bus.emit(event)
    assert scene.lines == []


def test_lines_carry_the_facts_of_their_event(scene):
    """What failed, where and why is in fields, partitions as topic:partition."""
    scene.bus.emit(ev.DeliveryRetried("kafka", "out", count=30, attempt=2, delay_s=0.51234, error="down"))
    scene.bus.emit(ev.PartitionsAssigned((LANE, ("in", 4)), total=2))
    scene.bus.emit(ev.Committed(((LANE, 42),)))
    scene.bus.emit(ev.StateChanged("running", flow="Words"))
    retry, assigned, committed, running = scene.lines
    assert {
        "sink_type": "kafka",
        "sink_name": "out",
        "count": 30,
        "attempt": 2,
        "delay_s": 0.512,
        "error": "down",
    }.items() <= retry.items()
    assert (assigned["partitions"], assigned["total"]) == (["in:3", "in:4"], 2)
    assert committed["offsets"] == {"in:3": 42}
    assert running["flow"] == "Words"
    assert "reason" not in running


def test_a_hook_that_raised_is_told_with_its_stack(configured, tmp_path):
    """So that its author finds the line; five times a minute for each hook, not for each record."""
    configured(output=str(tmp_path / "log"))
    bus = Bus()
    LogListener(structlog.get_logger("drakkar_flow")).listen(bus)

    def user_code() -> None:
        raise KeyError("missing")

    try:
        user_code()
    except KeyError as exc:
        error = exc
    for _ in range(20):
        bus.emit(ev.HookRan("arrange", 0.1, "missing", error))
    bus.emit(ev.PeriodicRan("beat", 0.1, "missing", error))
    *hooks, beat = read(tmp_path / "log")
    assert [line["event"] for line in hooks] == ["handler_hook_failed"] * 5
    assert all("in user_code" in line["exception"] for line in [*hooks, beat])


def test_repeating_lines_are_held_back_and_counted(scene):
    """Of one kind, two lines a minute are written; the next minute's first tells how many were not."""
    for now in (0, 1, 2, 3, 59.9, 60, 61):
        scene.clock.now = now
        scene.bus.emit(ev.CommitFailed("x"))
    assert [line.get("suppressed") for line in scene.lines] == [None, None, 3, None]


def test_lines_about_different_things_do_not_hold_each_other_back(scene):
    """Another sink, another event: another share."""
    for name in "abc":
        for _ in range(3):
            scene.bus.emit(ev.DeliveriesSkipped("kafka", name, 1))
            scene.bus.emit(ev.DeliveriesFailed("kafka", name, 1, "x"))
    assert len(scene.lines) == 2 * 3 * 2


def test_lines_about_the_life_of_the_process_are_never_held_back(scene):
    """Assignments and states are rare and each one matters."""
    for _ in range(10):
        scene.bus.emit(ev.PartitionsAssigned((LANE,), 1))
        scene.bus.emit(ev.StateChanged("running"))
    assert len(scene.lines) == 20


def test_close_tells_what_was_still_held_back(scene):
    """The counts don't get lost when no further line of the kind comes."""
    for _ in range(7):
        scene.bus.emit(ev.DeliveriesSkipped("kafka", "out", 1))
    scene.listener.close()
    scene.listener.close()
    (told,) = [line for line in scene.lines if line["event"] == "lines_suppressed"]
    assert (told["of"], told["key"], told["suppressed"]) == ("sink_delivery_skipped", ["kafka", "out"], 5)


def test_events_become_json_lines_end_to_end(configured, tmp_path, one_of_each):
    """With the application's configuration, everything that has a line is parsed back from the file."""
    configured(output=str(tmp_path / "log"), level="DEBUG")
    errors: list[Exception] = []
    bus = Bus(on_error=lambda _, exc: errors.append(exc))
    LogListener(structlog.get_logger("drakkar_flow")).listen(bus)
    for event in one_of_each:
        bus.emit(event)
    assert errors == []
    assert len(read(tmp_path / "log")) == len(LINES)
