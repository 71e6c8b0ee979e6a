"""Which events get a line, what it says, and how often."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorTask
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.annotations import Annotated, AnnotationDropped
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.cache import CacheCleaned, CacheFlushed, CachePeerSynced, CacheUsed
from drakkar_flow.observe.events.context import EventContext
from drakkar_flow.observe.events.hooks import HookRan, HooksRan, Offloaded, PeriodicRan
from drakkar_flow.observe.events.lifecycle import DrainFinished, FlowFailed, LogLineLost, StateChanged
from drakkar_flow.observe.events.recorder import RecorderDropped
from drakkar_flow.observe.events.records import RecordsFailed, RecordsFinished
from drakkar_flow.observe.events.sinks import (
    DeadLetterFailed,
    DeadLettersWritten,
    DeliveriesFailed,
    DeliveriesSkipped,
    DeliveriesWritten,
    DeliveryRetried,
)
from drakkar_flow.observe.events.source import (
    BrokerStateChanged,
    CommitFailed,
    Committed,
    ConsumerError,
    IntakePaused,
    PartitionsAssigned,
    PartitionsRevoked,
    RecordsConsumed,
    RecordsKnownFinished,
    RecordsTraced,
)
from drakkar_flow.observe.events.stalls import Idled, LoopAnswered
from drakkar_flow.observe.events.tasks import (
    DuplicateTasks,
    LongTaskRan,
    RetriesExhausted,
    TaskAttempts,
    TaskFailed,
    TaskFinished,
    TaskRetried,
    TasksCompleted,
    TasksPrecomputed,
    TasksStarted,
    WindowFinished,
)
from drakkar_flow.observe.log.lines import LINES
from drakkar_flow.observe.log.listener import LogListener
from drakkar_flow.observe.log.setup import LoggingHandle
from support.log_lines import LogScene
from support.log_lines import read_lines as read

ROOT = Path(__file__).resolve().parents[4]
PAGE = ROOT / "docs" / "observability.md"
LOGGERS = ("log", "self._log", "self._logger", "_logger", "logging.getLogger(__name__)")
LEVELS = ("debug", "info", "warning", "error", "exception")
LANE = ("in", 3)
ERROR = ExecutorError(task=ExecutorTask(task_id="t", source_offsets=[1]), exit_code=1)
HOT = {
    RecordsConsumed,
    RecordsKnownFinished,
    RecordsFinished,
    TasksStarted,
    TaskFinished,
    TasksCompleted,
    TasksPrecomputed,
    HooksRan,
    Offloaded,
    Annotated,
    WindowFinished,
    DeliveriesWritten,
    Idled,
    LogLineLost,
    LongTaskRan,
    LoopAnswered,
    CacheCleaned,
    CacheFlushed,
    CachePeerSynced,
    CacheUsed,
    RecorderDropped,
    RecordsTraced,
    TaskAttempts,
}


def test_every_event_has_a_line_or_is_hot(one_of_each: list[Event]) -> None:
    """For each event it is decided whether operators read of it; those of the hot path are only counted."""
    assert set(LINES) == {type(event) for event in one_of_each} - HOT


NAMES_OF = {
    "drakkar_{e.state}": ["drakkar_" + state for state in ("starting", "running", "draining", "stopped", "failed")],
    "executor_breaker_{e.state}": ["executor_breaker_half_open", "executor_breaker_closed"],
    "sink_circuit_{e.state}": ["sink_circuit_half_open", "sink_circuit_closed"],
    "{e.what}_stalled": ["partition_stalled", "loop_stalled", "engine_stalled"],
    "{e.what}_moves_again": ["partition_moves_again", "loop_moves_again", "engine_moves_again"],
    "event": ["intake_paused", "intake_resumed"],
}
"""The names of lines that the code puts together."""


def written_lines() -> Iterator[tuple[str, str]]:
    """Name and level of every line that the code can write; an empty level where it depends."""
    for path in (ROOT / "src" / "drakkar_flow").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call):
                continue
            words = [ast.unparse(each).removeprefix("f").strip("'") for each in call.args]
            of, _, how = ast.unparse(call.func).rpartition(".")
            if how in ("LogLine", "_record") and len(words) > 1:
                level, name = words[:2]
            elif of in LOGGERS and how in LEVELS and words:
                level, name = how.replace("exception", "error"), words[0]
            else:
                continue
            for each in NAMES_OF.get(name, [name]):
                yield each, level if level in LEVELS else ""


def test_the_page_lists_every_line_with_its_level() -> None:
    """The table of docs/observability.md has what the code can write, no more and no less."""
    table = PAGE.read_text().partition("| Line | Level |")[2]
    rows = [row.split(" | ") for row in table.splitlines() if row.startswith("| `")]
    on_page = {name: row[1] for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    written = dict(written_lines())
    assert on_page.keys() == written.keys()
    assert {name: level for name, level in on_page.items() if written[name] not in ("", level)} == {}


@pytest.mark.parametrize(
    ("event", "level", "name", "part"),
    [
        (StateChanged("draining"), "info", "drakkar_draining", "the last commit"),
        (StateChanged("failed", "boom"), "error", "drakkar_failed", "read again after a restart"),
        (FlowFailed("boom"), "error", "flow_failed", "read again after a restart"),
        (BrokerStateChanged(up=False, reason="x"), "warning", "broker_down", "reads and commits resume"),
        (BrokerStateChanged(up=True), "info", "broker_up", ""),
        (ConsumerError("x"), "warning", "consumer_error", "continues"),
        (PartitionsAssigned((LANE,), 1), "info", "partitions_assigned", ""),
        (PartitionsRevoked((LANE,), 0), "info", "partitions_revoked", ""),
        (PartitionsRevoked((LANE,), 0, unfinished=2), "info", "partitions_revoked", "next owner"),
        (PartitionsRevoked((LANE,), 0, lost=True), "warning", "partitions_lost", "nothing more is committed"),
        (IntakePaused(paused=True, in_flight=9), "debug", "intake_paused", ""),
        (IntakePaused(paused=False, in_flight=9), "debug", "intake_resumed", ""),
        (RecordsFailed("hook", "collect", LANE, 3, "x", "l"), "warning", "records_failed", "dead letters"),
        (RecordsFailed("decode", "decode", LANE, 3, "x", "l", "skip"), "warning", "records_failed", "dropped"),
        (RecordsFailed("decode", "decode", LANE, 3, "x", "l", "fail"), "warning", "records_failed", "flow stops"),
        (RecordsFailed("decode", "decode", LANE, 3, "x", "l", "pass"), "warning", "records_failed", "they continue"),
        (Committed(((LANE, 42),)), "debug", "offsets_committed", ""),
        (CommitFailed("x"), "warning", "commit_failed", "retried"),
        (TaskFailed(ERROR), "warning", "executor_task_failed", "on_error"),
        (
            DuplicateTasks(LANE, 2, "t"),
            "warning",
            "duplicate_task_id_in_pending",
            "all of them run; leave out those in pending.pending_task_ids, or give each task a unique id",
        ),
        (TaskRetried("t", 1), "info", "executor_task_retried", ""),
        (RetriesExhausted("t", 4, dead=False), "warning", "max_retries_exceeded", "skipped"),
        (RetriesExhausted("t", 4, dead=True), "warning", "max_retries_exceeded", "dead letters"),
        (HookRan("arrange", 0.1, "x"), "error", "handler_hook_failed", "failure route"),
        (HookRan("on_error", 0.1, "x"), "error", "handler_hook_failed", "skipped"),
        (HookRan("task_priority", None, "x"), "error", "handler_hook_failed", "by its offset"),
        (PeriodicRan("beat", 0.1, "x"), "error", "periodic_task_failed", "after its interval"),
        (PeriodicRan("beat", 0.1, "x", stopped=True), "error", "periodic_task_stopped", "does not run again"),
        (AnnotationDropped("score", "too_large"), "warning", "annotation_dropped", "only the annotation"),
        (DeliveryRetried("kafka", "out", 3, 1, 0.5, "x"), "warning", "sink_delivery_retry", "delay_s"),
        (DeliveriesFailed("kafka", "out", 3, "x"), "error", "sink_delivery_failed", "dead letter"),
        (DeliveriesSkipped("kafka", "out", 3), "warning", "sink_delivery_skipped", "dropped"),
        (DeadLettersWritten(3), "warning", "dlq_message_sent", "dead letter topic"),
        (DeadLetterFailed(3, "x", dropped=False), "error", "dlq_send_failed", "not committed"),
        (DeadLetterFailed(3, "x", dropped=True), "error", "dlq_send_failed", "dropped"),
        (DrainFinished(0, 1.0), "info", "drain_finished", ""),
        (DrainFinished(3, 1.0), "warning", "drain_timeout", "read again after a restart"),
    ],
    ids=lambda it: type(it).__name__ if isinstance(it, Event) else None,
)
def test_an_event_becomes_a_line_that_tells_what_comes_next(
    scene: LogScene, event: Event, level: str, name: str, part: str
) -> None:
    """Each line has its level, its name, and where it matters what the operator may expect."""
    scene.bus.emit(event)
    (line,) = scene.lines
    assert (line["level"], line["event"]) == (level, name)
    assert part in line.get("expect", "")
    assert bool(part) == ("expect" in line)


@pytest.mark.parametrize(
    "event", [HookRan("arrange", 0.1), PeriodicRan("beat", 0.1), TaskFinished("completed", "", 1, 0, 0)]
)
def test_what_went_well_is_not_logged(scene: LogScene, event: HookRan | PeriodicRan | TaskFinished) -> None:
    """A hook that returned and a task that completed are counted, not told."""
    scene.bus.emit(event)
    assert scene.lines == []


def test_lines_carry_the_facts_of_their_event(scene: LogScene) -> None:
    """What failed, where and why is in fields, partitions as topic:partition."""
    scene.bus.emit(DeliveryRetried("kafka", "out", count=30, attempt=2, delay_s=0.51234, error="down"))
    scene.bus.emit(PartitionsAssigned((LANE, ("in", 4)), total=2))
    scene.bus.emit(Committed(((LANE, 42),)))
    scene.bus.emit(StateChanged("running", flow="Words"))
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


def test_the_line_of_a_failed_task_says_which_where_how_and_why(scene: LogScene) -> None:
    """Its records, what was run, how that ended and the end of what it complained about, as one string."""
    error = ExecutorError(
        task=ExecutorTask(task_id="t-1", source_offsets=[7, 9]),
        kind="signal",
        exit_code=-9,
        signal=9,
        stderr="begin" + "x" * 5000 + "\nlast words\n",
        pid=4711,
        duration_seconds=1.23456,
        attempt=2,
        executor="persistent",
        command=["/bin/rg", "--line-buffered"],
    )
    records = [Record(topic="in", partition=3, offset=offset) for offset in (7, 9)]
    scene.bus.emit(TaskFailed(error, EventContext.of(records, ["t-1"]), b"\xffkey" + b"k" * 500))
    (line,) = scene.lines
    stderr, key = line.pop("stderr"), line.pop("key")
    assert (len(stderr), stderr[-12:]) == (2048, "\nlast words\n")
    assert (len(key), key[:7]) == (131, "\\xffkey")
    assert line == {
        "event": "executor_task_failed",
        "level": "warning",
        "topic": "in",
        "partition": 3,
        "offset": 7,
        "records": ["in:3:7", "in:3:9"],
        "task_id": "t-1",
        "kind": "signal",
        "executor": "persistent",
        "program": "/bin/rg",
        "pid": 4711,
        "exit_code": -9,
        "signal": 9,
        "error": "signal 9",
        "duration_s": 1.235,
        "attempt": 2,
        "expect": line["expect"],
    }


def test_a_line_about_many_records_names_the_first_ten(scene: LogScene) -> None:
    """Ten thousand payloads of a batch make no line of a megabyte, and it says how many there are."""
    records = [Record(topic="in", partition=offset % 2, offset=offset) for offset in range(500)]
    about = EventContext.of([*records, *records], (f"t-{record.offset}" for record in records))
    scene.bus.emit(DeliveriesFailed("kafka", "out", 500, "down", 3, about))
    (line,) = scene.lines
    assert (line["topic"], line["partition"], line["offset"], line["task_id"]) == ("in", 0, 0, "t-0")
    assert line["records"] == [f"in:{offset % 2}:{offset}" for offset in range(10)]
    assert line["task_ids"] == [f"t-{offset}" for offset in range(10)]
    assert (line["records_total"], line["attempts"]) == (500, 3)


@pytest.mark.parametrize("text", ["x" * 100_000, "ä\ud800" * 50_000], ids=["ascii", "half-a-surrogate-pair"])
def test_no_text_of_others_makes_a_line_too_long_or_unwritable(
    configured: Callable[..., LoggingHandle], tmp_path: Path, text: str
) -> None:
    """Errors and stacks are other people's texts: cut, legible, and on one line."""
    configured(output=str(tmp_path / "log"))
    bus = Bus()
    LogListener(structlog.get_logger()).listen(bus)
    bus.emit(CommitFailed(text))
    bus.emit(HookRan("arrange", 0.1, "x", ValueError(text)))
    structlog.get_logger().warning("a line of the user's", text=text)
    cut, raised, theirs = read(tmp_path / "log")
    assert len(cut["error"]) < 35_000
    assert "characters more)" in cut["error"]
    assert raised["exception"].startswith("ValueError: ")
    assert "characters left out)" in raised["exception"]
    assert len(raised["exception"]) < 120_000
    assert len(theirs["text"]) == len(text)


def test_a_hook_that_raised_is_told_with_its_stack(configured: Callable[..., LoggingHandle], tmp_path: Path) -> None:
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
        bus.emit(HookRan("arrange", 0.1, "missing", error))
    bus.emit(PeriodicRan("beat", 0.1, "missing", error))
    *hooks, beat = read(tmp_path / "log")
    assert [line["event"] for line in hooks] == ["handler_hook_failed"] * 5
    assert all("in user_code" in line["exception"] for line in [*hooks, beat])


def test_repeating_lines_are_held_back_and_counted(scene: LogScene) -> None:
    """Of one kind, two lines a minute are written; the next minute's first tells how many were not."""
    for now in (0, 1, 2, 3, 59.9, 60, 61):
        scene.clock.now = now
        scene.bus.emit(CommitFailed("x"))
    assert [line.get("suppressed") for line in scene.lines] == [None, None, 3, None]


def test_what_was_held_back_is_told_when_nothing_more_comes(scene: LogScene) -> None:
    """A flood that is over is told once its minute is, not at the end of the process; and only once."""
    for _ in range(7):
        scene.bus.emit(CommitFailed("x"))
    for now in (30, 60, 61):
        scene.clock.now = now
        scene.bus.emit(LoopAnswered(0.001))
    told = [line for line in scene.lines if line["event"] == "lines_suppressed"]
    assert [(line["of"], line["suppressed"]) for line in told] == [("commit_failed", 5)]
    scene.bus.emit(CommitFailed("x"))
    assert "suppressed" not in scene.lines[-1]


def test_a_flood_of_failures_is_bounded_and_counted(one_of_each: list[Event]) -> None:
    """Ten minutes in which everything fails a thousand times: few lines, and not one failure uncounted."""
    scene, rounds = LogScene(burst=5), 1000
    told = [(event, LINES[type(event)](event)) for event in one_of_each if type(event) in LINES]
    repeated = {line.event: event for event, line in told if line is not None and line.key is not None}
    for number in range(rounds):
        scene.clock.now = number * 600 / rounds
        scene.bus.emit(LoopAnswered(0.001))
        for event in repeated.values():
            scene.bus.emit(event)
    scene.listener.close()
    for kind in repeated:
        lines = [line for line in scene.lines if line["event"] == kind]
        left_out = [line for line in scene.lines if line["event"] == "lines_suppressed" and line["of"] == kind]
        assert len(lines) <= 5 * 10, kind
        assert len(lines) + sum(line.get("suppressed", 0) for line in [*lines, *left_out]) == rounds, kind


def test_lines_about_different_things_do_not_hold_each_other_back(scene: LogScene) -> None:
    """Another sink, another event: another share."""
    for name in "abc":
        for _ in range(3):
            scene.bus.emit(DeliveriesSkipped("kafka", name, 1))
            scene.bus.emit(DeliveriesFailed("kafka", name, 1, "x"))
    assert len(scene.lines) == 2 * 3 * 2


def test_lines_about_the_life_of_the_process_are_never_held_back(scene: LogScene) -> None:
    """Assignments and states are rare and each one matters."""
    for _ in range(10):
        scene.bus.emit(PartitionsAssigned((LANE,), 1))
        scene.bus.emit(StateChanged("running"))
    assert len(scene.lines) == 20


def test_close_tells_what_was_still_held_back(scene: LogScene) -> None:
    """The counts don't get lost when no further line of the kind comes."""
    for _ in range(7):
        scene.bus.emit(DeliveriesSkipped("kafka", "out", 1))
    scene.listener.close()
    scene.listener.close()
    (told,) = [line for line in scene.lines if line["event"] == "lines_suppressed"]
    assert (told["of"], told["key"], told["suppressed"]) == ("sink_delivery_skipped", ["kafka", "out"], 5)


def test_events_become_json_lines_end_to_end(
    configured: Callable[..., LoggingHandle], tmp_path: Path, one_of_each: list[Event]
) -> None:
    """With the application's configuration, everything that has a line is parsed back from the file."""
    configured(output=str(tmp_path / "log"), level="DEBUG")
    errors: list[Exception] = []
    bus = Bus(on_error=lambda _, exc: errors.append(exc))
    LogListener(structlog.get_logger("drakkar_flow")).listen(bus)
    for event in one_of_each:
        bus.emit(event)
    assert errors == []
    assert len(read(tmp_path / "log")) == len(LINES)
