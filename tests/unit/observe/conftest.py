"""What tests about events and lines share: one event of each type, logging that is undone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask
from drakkar_flow.observe.events.annotations import Annotated, AnnotationDropped
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.cache import (
    CacheChanged,
    CacheCleaned,
    CacheDropped,
    CacheFlushed,
    CacheFlushFailed,
    CachePeerFailed,
    CachePeerSynced,
    CacheStarted,
    CacheUsed,
)
from drakkar_flow.observe.events.context import EventContext
from drakkar_flow.observe.events.executor import (
    ChildEnded,
    ChildLogged,
    ChildStarted,
    ExecutorBreakerChanged,
    ExecutorUnguarded,
    HostLimitLow,
    HostShortage,
)
from drakkar_flow.observe.events.hooks import HookRan, HooksRan, Offloaded, PeriodicRan
from drakkar_flow.observe.events.lifecycle import (
    DrainFinished,
    FlowFailed,
    ListenerFailed,
    ListenerLagged,
    LogLineLost,
    StateChanged,
)
from drakkar_flow.observe.events.recorder import (
    RecorderChanged,
    RecorderDropped,
    RecorderFailed,
    RecorderStarted,
    RecordingFaulty,
)
from drakkar_flow.observe.events.records import RecordsFailed, RecordsFinished
from drakkar_flow.observe.events.sinks import (
    DeadLetterFailed,
    DeadLettersWritten,
    DeliveriesFailed,
    DeliveriesSkipped,
    DeliveriesSuppressed,
    DeliveriesWritten,
    DeliveryRetried,
    SinkCircuitChanged,
)
from drakkar_flow.observe.events.source import (
    AssignmentAwaited,
    BrokerStateChanged,
    ClientLogged,
    CommitFailed,
    Committed,
    ConsumerError,
    IntakePaused,
    PartitionsAssigned,
    PartitionsRevoked,
    RecordsConsumed,
    RecordsKnownFinished,
    RecordsTraced,
    TopicRecreated,
)
from drakkar_flow.observe.events.stalls import Idled, LoopAnswered, Stalled, StallEnded
from drakkar_flow.observe.events.state import StateRestored, StateStartDecided
from drakkar_flow.observe.events.tasks import (
    DuplicateTasks,
    LongTaskRan,
    RetriesExhausted,
    TaskAttempts,
    TaskFailed,
    TaskFellBack,
    TaskFinished,
    TaskRetried,
    TasksCompleted,
    TasksPrecomputed,
    TasksStarted,
    WindowFinished,
)
from drakkar_flow.observe.log.setup import LoggingHandle, configure_logging
from support.log_lines import LogScene

LANE = ("in", 3)
ABOUT = EventContext.of([Record(topic="in", partition=3, offset=7)], ["t-1"])
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
    ChildStarted(child=0, pid=4711),
    ChildEnded(child=0, pid=4711, reason="exit code 3", failed=True, requests=7, lived_s=1.5),
    ChildLogged(child=0, pid=4711, lines=("no licence found",), more=3),
    ExecutorBreakerChanged("open", failures=5, reason="exit code 3"),
    ExecutorUnguarded("the reaper ended with -9"),
    HostShortage("executor", "descriptors", "can't start 'jq': [Errno 24] Too many open files"),
    HostLimitLow("RLIMIT_NOFILE", allowed=1024, needed=3000, slots=120),
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
    BrokerStateChanged(up=True),
    ClientLogged(40, "FAIL", "rdkafka#consumer-1", "refused"),
    TopicRecreated("in", (LANE,)),
    StateRestored(LANE, 3, 10, 0.5),
    StateStartDecided(LANE, "in-0: the group has no offset; continues at the position 7 of its state"),
    AssignmentAwaited("group", 5.0, 45.0),
    ConsumerError("odd"),
    PartitionsAssigned(topic_partitions=(LANE,), total=1),
    PartitionsRevoked(topic_partitions=(("in", 9),), total=1, unfinished=2),
]

OF_THE_CACHE = [
    CacheStarted("/cache/w-1/cache-1.sqlite"),
    CacheChanged("memory", "no space"),
    CacheDropped("too_large", 1, "'k' has 2,000,000 bytes"),
    CacheFlushFailed("OperationalError: disk I/O error", 7),
    CacheFlushed(7, 1),
    CacheCleaned(2, 0),
    CachePeerSynced("w-2", 7, 3),
    CachePeerFailed("w-3", "the signature is wrong"),
    CacheUsed(hits_memory=3, hits_db=1, misses=2, writes=(("local", 4),), deletes=1, entries_in_memory=4),
]

OF_THE_RECORDER = [
    RecorderStarted("/rec/w-1"),
    RecorderChanged("off", "no space"),
    RecorderDropped("tasks", 7),
    RecorderFailed("HookRan: TypeError: no"),
    RecordingFaulty("/rec/w-1/a.live.sqlite", "damaged"),
    RecordsTraced(LANE, (7,)),
    TaskAttempts(()),
    LongTaskRan(ExecutorResult(task=ERROR.task), ABOUT),
]


@pytest.fixture
def scene() -> LogScene:
    """A listener that admits two lines of a kind a minute."""
    return LogScene()


@pytest.fixture
def one_of_each() -> list[Event]:
    """One event of each type there is."""
    return [
        StateChanged("running"),
        FlowFailed("boom"),
        ListenerFailed("page", "Stalled", "ValueError: no", first=True),
        ListenerLagged("page", dropped=7),
        *OF_THE_GROUP,
        IntakePaused(paused=True, in_flight=128),
        RecordsConsumed(LANE, count=20, size=400),
        RecordsKnownFinished(LANE, count=3),
        RecordsFinished(done=7, skipped=2, dead=1, oldest_latency_s=0.2),
        RecordsFailed("decode", "decode", LANE, count=3, error="no JSON", label="in:3:7"),
        Committed(((LANE, 42),)),
        CommitFailed("timed out"),
        TasksStarted(5),
        TasksPrecomputed(4),
        TaskFinished("failed", "timeout", 2.0, 0.02, 0.002, True, True),
        TaskFailed(ERROR, ABOUT, b"key"),
        DuplicateTasks(LANE, count=2, task_id="t-1"),
        TasksCompleted(durations_s=(0.01, 0.02), queue_waits_s=(0.0, 0.3)),
        TaskFellBack("t-1", "several lines"),
        *OF_EXECUTORS,
        TaskRetried("t-1", attempt=2),
        RetriesExhausted("t-1", 4, dead=False, error=ERROR, about=ABOUT),
        HookRan("on_error", 0.02, error="KeyError: 'a'"),
        HooksRan("arrange", count=10, duration_s=0.02),
        PeriodicRan("beat", 0.02, error="down"),
        Offloaded("arrange", 0.5),
        Annotated("record", "in:3:7", "score", "0.5", {"model": "m"}),
        AnnotationDropped("score", "too_large"),
        WindowFinished(LANE, records=20, tasks=20, duration_s=1.5),
        DeliveriesWritten("kafka", "results", count=30, duration_s=0.004),
        DeliveryRetried("kafka", "results", count=30, attempt=1, delay_s=0.5, error="down"),
        DeliveriesFailed("kafka", "results", count=6, error="refused"),
        DeliveriesSkipped("kafka", "results", count=2),
        SinkCircuitChanged("kafka", "results", "open", failures=5, waits=False, reason="down"),
        DeadLettersWritten(3),
        DeliveriesSuppressed(2, topic_partitions=((LANE, 2),)),
        DeadLetterFailed(2, error="down", dropped=True, topic_partitions=((LANE, 2),)),
        DrainFinished(unfinished=11, duration_s=30.0),
        Idled(slots_s=0.5, consumer_s=0.0),
        LogLineLost(),
        *OF_THE_CACHE,
        *OF_THE_RECORDER,
        LoopAnswered(after_s=0.002),
        Stalled("partition", 300.0, LANE, 42, "execute", (("hook", "..."),)),
        StallEnded("partition", 400.0, LANE),
    ]
