"""How lines are written, and which events get one."""

from __future__ import annotations

import io
import json
import logging
import sys
from datetime import datetime, timedelta

import pytest
import structlog

from drakkar_flow.errors import StartupError
from drakkar_flow.observe import events as ev
from drakkar_flow.observe import vitals
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.lines import LINES
from drakkar_flow.observe.log import LogListener, configure_logging

LANE = ("in", 3)
HOT = {
    ev.RecordsConsumed,
    ev.RecordsKnownFinished,
    ev.RecordsFinished,
    ev.TasksStarted,
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


@pytest.fixture
def configured():
    """`configure_logging`, undone at the end of the test."""
    handles = []

    def configure(**settings):
        handles.append(configure_logging(**{"worker_id": "w-1", **settings}))
        return handles[-1]

    yield configure
    for handle in reversed(handles):
        handle.close()


class Clock:
    """A clock that stands until it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """A bus with a listener whose lines are kept as dicts."""

    def __init__(self, burst: int = 2) -> None:
        self.bus = Bus()
        self.clock = Clock()
        self.lines: list[dict] = []
        logger = structlog.wrap_logger(None, processors=[structlog.stdlib.add_log_level, self._keep])
        self.listener = LogListener(logger, burst=burst, interval_s=60.0, clock=self.clock)
        self.listener.listen(self.bus)

    def _keep(self, _, __, line: dict) -> dict:
        self.lines.append(dict(line))
        raise structlog.DropEvent


@pytest.fixture
def scene():
    """A listener that admits two lines of a kind a minute."""
    return Scene()


def read(path) -> list[dict]:
    """The lines of a JSON log."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_is_one_json_object_with_who_wrote_it(configured, tmp_path):
    """The fields every line has, in the order people look for them, and what the line brings along."""
    configured(output=str(tmp_path / "log"), consumer_group="g", cluster_name="c", service_version="1.2", level="info")
    structlog.get_logger().bind(module="engine", category="life").warning("héllo", count=3)
    (line,) = read(tmp_path / "log")
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)
    assert list(line)[:3] == ["timestamp", "level", "event"]
    del line["timestamp"]
    assert line == {
        "level": "warning",
        "event": "héllo",
        "service_name": "drakkar",
        "service_version": "1.2",
        "worker_id": "w-1",
        "consumer_group": "g",
        "cluster_name": "c",
        "module": "engine",
        "category": "life",
        "count": 3,
    }


def test_lines_of_the_standard_library_look_the_same(configured, tmp_path):
    """Third-party code logs through `logging`; its lines are JSON too, with the logger's name, text and extras."""
    configured(output=str(tmp_path / "log"))
    logging.getLogger("some.client").warning("gone %d times", 3, extra={"broker": "b1"})
    (line,) = read(tmp_path / "log")
    expected = {
        "level": "warning",
        "event": "gone 3 times",
        "logger": "some.client",
        "broker": "b1",
        "worker_id": "w-1",
        "service_name": "drakkar",
    }
    assert expected.items() <= line.items()


@pytest.mark.parametrize("logger", [logging.getLogger("x"), structlog.get_logger()], ids=["logging", "structlog"])
def test_an_exception_is_text_without_local_variables(configured, tmp_path, capsys, logger):
    """The traceback is a field of the line, and a secret in a local variable does not leak, in either format."""
    for format_ in ("json", "console"):
        handle = configured(output=str(tmp_path / format_), format=format_)
        try:
            secret = "hunter" + str(2)
            raise ValueError("wrong " + str(len(secret)))
        except ValueError:
            logger.exception("it_failed")
        handle.close()
    (line,) = read(tmp_path / "json")
    assert "ValueError: wrong 7" in line["exception"]
    assert line["level"] == "error"
    text = (tmp_path / "console").read_text(encoding="utf-8")
    assert "it_failed" in text
    assert "ValueError: wrong 7" in text
    assert "hunter2" not in text + line["exception"]


@pytest.mark.parametrize("logger", [logging.getLogger("x"), structlog.get_logger()], ids=["logging", "structlog"])
def test_lines_below_the_level_are_dropped(configured, tmp_path, logger):
    """The level holds for both libraries."""
    configured(output=str(tmp_path / "log"), level="WARNING")
    logger.info("quiet")
    logger.warning("loud")
    assert [line["event"] for line in read(tmp_path / "log")] == ["loud"]


@pytest.mark.parametrize("output", ["stderr", "stdout"])
def test_lines_go_to_the_stream_asked_for(configured, capsys, output):
    """stderr is the default; stdout is left alone unless asked for."""
    configured(**({"output": output} if output == "stdout" else {}))
    structlog.get_logger().info("here")
    captured = capsys.readouterr()
    assert json.loads(getattr(captured, output[3:]))["event"] == "here"
    assert (captured.out + captured.err).count("\n") == 1


def test_the_file_is_named_after_the_worker_and_its_directories_are_made(configured, tmp_path):
    """Placeholders are filled in, and no id can climb out of the directory."""
    configured(output=str(tmp_path / "{cluster_name}/a/{worker_id}.log"), worker_id="../w/1", cluster_name="prod")
    structlog.get_logger().info("here")
    assert [line["event"] for line in read(tmp_path / "prod" / "a" / ".._w_1.log")] == ["here"]


def test_the_file_is_appended_to_and_opened_anew_after_a_rotation(configured, tmp_path):
    """A restart keeps the old lines, and a moved file does not swallow the new ones."""
    path = tmp_path / "log"
    configured(output=str(path)).close()
    configured(output=str(path))
    structlog.get_logger().info("one")
    path.rename(tmp_path / "log.1")
    structlog.get_logger().info("two")
    assert [line["event"] for line in read(tmp_path / "log.1")] == ["one"]
    assert [line["event"] for line in read(path)] == ["two"]


def test_a_file_that_can_not_be_written_is_a_problem_with_a_remedy(tmp_path):
    """The message names the setting and the path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match=r"logging\.output: can't write .*file/log: .*; name a file") as caught:
        configure_logging(output=str(tmp_path / "file" / "log"), worker_id="w")
    assert caught.value.exit_code == 2


def test_values_json_does_not_know_are_written_as_text(configured, tmp_path):
    """No value makes a line fail."""
    configured(output=str(tmp_path / "log"))
    structlog.get_logger().info("odd", raw=b"\xff", kind=LINES.keys)
    (line,) = read(tmp_path / "log")
    assert line["raw"] == "b'\\xff'"


def test_importing_and_listening_leave_the_programs_logging_alone():
    """Only the application configures logging, by asking for it."""
    before = (list(logging.getLogger().handlers), logging.getLogger().level, structlog.is_configured())
    Scene().bus.emit(ev.FlowFailed("boom"))
    assert (list(logging.getLogger().handlers), logging.getLogger().level, structlog.is_configured()) == before


@pytest.mark.parametrize("host_configured", [True, False])
def test_close_gives_the_program_its_logging_back(tmp_path, host_configured):
    """Handlers, level and structlog's configuration are what they were before."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    if host_configured:
        structlog.configure(processors=[structlog.stdlib.add_log_level])
    processors = structlog.get_config()["processors"]
    handle = configure_logging(output=str(tmp_path / "log"), worker_id="w", level="DEBUG")
    assert structlog.get_config()["processors"] != processors
    handle.close()
    handle.close()
    try:
        assert (list(root.handlers), root.level) == before
        assert structlog.is_configured() is host_configured
        assert structlog.get_config()["processors"] == processors
    finally:
        structlog.reset_defaults()


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
        (ev.RecordsFailed("hook", "collect", LANE, 3, "x", "l"), "warning", "records_failed", "failure route"),
        (ev.Committed(((LANE, 42),)), "debug", "offsets_committed", ""),
        (ev.CommitFailed("x"), "warning", "commit_failed", "tried again"),
        (ev.TaskFinished("failed", "timeout", 2, 0, 0), "warning", "executor_task_failed", "on_error"),
        (
            ev.DuplicateTasks(LANE, 2, "t"),
            "warning",
            "duplicate_task_id_in_pending",
            "they run beside each other; leave out those in pending.pending_task_ids, or give tasks ids of their own",
        ),
        (ev.TaskRetried("t", 1), "info", "executor_task_retried", ""),
        (ev.HookRan("arrange", 0.1, "x"), "error", "handler_hook_failed", ""),
        (ev.PeriodicRan("beat", 0.1, "x"), "error", "periodic_task_failed", "after its interval"),
        (ev.PeriodicRan("beat", 0.1, "x", stopped=True), "error", "periodic_task_stopped", "not run any more"),
        (ev.AnnotationDropped("score", "too_large"), "warning", "annotation_dropped", ""),
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


class Broken(io.StringIO):
    """A stream nobody reads any more."""

    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_a_stream_nobody_reads_does_not_hurt_the_flow(configured, monkeypatch):
    """When a line can't be written, events are still handed out."""
    monkeypatch.setattr(sys, "stderr", Broken())
    errors: list[Exception] = []
    bus = Bus(on_error=lambda _, exc: errors.append(exc))
    configured()
    LogListener(structlog.get_logger()).listen(bus)
    bus.emit(ev.CommitFailed("x"))
    assert errors == []
