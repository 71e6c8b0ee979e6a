"""What tests about events and lines share: one event of each type, logging that is undone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorTask
from drakkar_flow.observe import attempts, vitals
from drakkar_flow.observe import events as ev
from drakkar_flow.observe import executor_events as xev
from drakkar_flow.observe import group_events as gev
from drakkar_flow.observe.about import About
from drakkar_flow.observe.log import LoggingHandle, configure_logging
from support.log_lines import LogScene

LANE = ("in", 3)
ABOUT = About.of([Record(topic="in", partition=3, offset=7)], ["t-1"])
ERROR = ExecutorError(
    task=ExecutorTask(task_id="t-1", source_offsets=[7]),
    kind="nonzero_exit",
    exit_code=3,
    stderr="one\ntwo",
    pid=4711,
    duration_seconds=1.23456,
    attempt=2,
    executor="oneshot",
    command=["/bin/rg", "-c"],
)
OF_EXECUTORS = [
    xev.ChildStarted(child=0, pid=4711),
    xev.ChildEnded(child=0, pid=4711, reason="exit code 3", failed=True, requests=7, lived_s=1.5),
    xev.ChildLogged(child=0, pid=4711, lines=("no licence found",), more=3),
    xev.ExecutorBreakerChanged("open", failures=5, reason="exit code 3"),
    xev.ExecutorUnguarded("the warden ended with -9"),
    xev.HostShortage("executor", "descriptors", "can't start 'jq': [Errno 24] Too many open files"),
    xev.HostLimitLow("RLIMIT_NOFILE", allowed=1024, needed=3000, slots=120),
]


@pytest.fixture
def configured() -> Iterator[Callable[..., LoggingHandle]]:
    """`configure_logging`, undone at the end of the test."""
    handles: list[LoggingHandle] = []

    def configure(**settings: Any) -> LoggingHandle:
        handles.append(configure_logging(**{"worker_id": "w-1", **settings}))
        return handles[-1]

    yield configure
    for handle in reversed(handles):
        handle.close()


OF_THE_GROUP = [
    ev.BrokerStateChanged(up=True),
    gev.ClientLogged(40, "FAIL", "rdkafka#consumer-1", "refused"),
    gev.TopicRecreated("in", (LANE,)),
    gev.AssignmentAwaited("group", 5.0, 45.0),
    ev.ConsumerError("odd"),
    ev.PartitionsAssigned(lanes=(LANE,), total=1),
    ev.PartitionsRevoked(lanes=(("in", 9),), total=1, unfinished=2),
]


@pytest.fixture
def scene() -> LogScene:
    """A listener that admits two lines of a kind a minute."""
    return LogScene()


@pytest.fixture
def one_of_each() -> list[ev.Event]:
    """One event of each type there is."""
    return [
        ev.StateChanged("running"),
        ev.FlowFailed("boom"),
        *OF_THE_GROUP,
        ev.IntakePaused(paused=True, in_flight=128),
        ev.RecordsConsumed(LANE, count=20, size=400),
        ev.RecordsKnownFinished(LANE, count=3),
        ev.RecordsFinished(done=7, skipped=2, dead=1, oldest_latency_s=0.2),
        ev.RecordsFailed("decode", "decode", LANE, count=3, error="no JSON", label="in:3:7"),
        ev.Committed(((LANE, 42),)),
        ev.CommitFailed("timed out"),
        ev.TasksStarted(5),
        ev.TasksPrecomputed(4),
        ev.TaskFinished("failed", "timeout", 2.0, 0.02, 0.002, True, True),
        attempts.TaskFailed(ERROR, ABOUT, b"key"),
        ev.DuplicateTasks(LANE, count=2, task_id="t-1"),
        ev.TasksCompleted(durations_s=(0.01, 0.02), queue_waits_s=(0.0, 0.3)),
        ev.TaskFellBack("t-1", "several lines"),
        *OF_EXECUTORS,
        attempts.TaskRetried("t-1", attempt=2),
        attempts.RetriesExhausted("t-1", 4, dead=False, error=ERROR, about=ABOUT),
        ev.HookRan("on_error", 0.02, error="KeyError: 'a'"),
        ev.HooksRan("arrange", count=10, duration_s=0.02),
        ev.PeriodicRan("beat", 0.02, error="down"),
        ev.Offloaded("arrange", 0.5),
        ev.Annotated("record", "in:3:7", "score", "0.5", {"model": "m"}),
        ev.AnnotationDropped("score", "too_large"),
        ev.WindowFinished(LANE, records=20, tasks=20, duration_s=1.5),
        ev.DeliveriesWritten("kafka", "results", count=30, duration_s=0.004),
        ev.DeliveryRetried("kafka", "results", count=30, attempt=1, delay_s=0.5, error="down"),
        ev.DeliveriesFailed("kafka", "results", count=6, error="refused"),
        ev.DeliveriesSkipped("kafka", "results", count=2),
        ev.SinkCircuitChanged("kafka", "results", "open", failures=5, waits=False, reason="down"),
        ev.DeadLettersWritten(3),
        ev.DeliveriesSuppressed(2, lanes=((LANE, 2),)),
        ev.DeadLetterFailed(2, error="down", dropped=True, lanes=((LANE, 2),)),
        ev.DrainFinished(unfinished=11, duration_s=30.0),
        vitals.Idled(slots_s=0.5, consumer_s=0.0),
        vitals.LogLineLost(),
        vitals.LoopAnswered(after_s=0.002),
        vitals.Stalled("partition", 300.0, LANE, 42, "execute", (("hook", "..."),)),
        vitals.StallEnded("partition", 400.0, LANE),
    ]
