"""The running totals, rates and latencies of a run."""

from __future__ import annotations

import threading

import pytest

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.hooks import HookRan
from drakkar_flow.observe.events.records import RecordsFinished
from drakkar_flow.observe.events.sinks import DeadLetterFailed, DeliveriesWritten
from drakkar_flow.observe.events.source import Committed, RecordsConsumed
from drakkar_flow.observe.events.tasks import TaskFinished
from drakkar_flow.observe.metrics.statistics import SinkTotals, Statistics, Totals


class Clock:
    """A clock that stands until it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that shows 100 s."""
    return Clock()


@pytest.fixture
def statistics(clock: Clock) -> Statistics:
    """Statistics over a window of ten seconds."""
    return Statistics(window_s=10, clock=clock)


@pytest.fixture
def bus(statistics: Statistics) -> Bus:
    """A bus the statistics listen to."""
    bus = Bus()
    statistics.listen(bus)
    return bus


def test_every_event_is_counted_where_it_belongs(bus: Bus, statistics: Statistics, one_of_each: list[Event]) -> None:
    """One event of each type gives exactly these totals."""
    for event in one_of_each:
        bus.emit(event)
    bus.emit(TaskFinished("completed", "", 1.0, 0, 0))
    bus.emit(HookRan("arrange", 0.1))
    bus.emit(DeadLetterFailed(9, "x", dropped=False))
    seen = statistics.snapshot()
    assert seen.totals == Totals(
        state="running",
        assigned=1,
        records_read=20,
        bytes_read=400,
        records_done=7,
        records_skipped=2,
        records_dead=1,
        records_failed=3,
        tasks_started=5,
        tasks_completed=3,
        tasks_failed=1,
        tasks_precomputed=4,
        task_retries=1,
        hook_errors=1,
        commit_failures=1,
        dead_letters=3,
        dead_letters_dropped=2,
    )
    assert seen.totals.records_finished == 10
    assert seen.sinks == {("kafka", "results"): SinkTotals(written=30, failed=6, skipped=2, retries=1)}
    assert seen.committed == {("in", 3): 42}


def test_a_snapshot_does_not_change_afterwards(bus: Bus, statistics: Statistics) -> None:
    """What was read stays as it was, however the run goes on."""
    events = [
        RecordsConsumed(("in", 0), 1, 1),
        Committed(((("in", 0), 5),)),
        DeliveriesWritten("kafka", "out", 1, 0.1),
    ]
    for event in events:
        bus.emit(event)
    before = statistics.snapshot()
    for event in [*events, Committed(((("in", 0), 6),))]:
        bus.emit(event)
    assert before.totals.records_read == 1
    assert before.committed == {("in", 0): 5}
    assert before.sinks["kafka", "out"].written == 1
    assert statistics.snapshot().totals.records_read == 2


def test_rates_are_those_of_the_last_seconds(bus: Bus, statistics: Statistics, clock: Clock) -> None:
    """A rate is over the window; when nothing comes it goes to zero, the totals stay."""
    clock.now = 120.0
    bus.emit(RecordsConsumed(("in", 0), 500, 1))
    bus.emit(RecordsFinished(200, 0, 0))
    bus.emit(TaskFinished("completed", "", 1.0, 0, 0))
    seen = statistics.snapshot()
    assert (seen.records_read_per_s, seen.records_finished_per_s, seen.tasks_finished_per_s) == (50, 20, 0.1)
    clock.now = 130.0
    seen = statistics.snapshot()
    assert (seen.records_read_per_s, seen.totals.records_read, seen.uptime_s) == (0, 500, 30)


def test_latencies_are_nearly_right(bus: Bus, statistics: Statistics) -> None:
    """The median and the 99th percentile of a thousand tasks and records are within 5 %."""
    for ms in range(1, 1001):
        bus.emit(TaskFinished("completed", "", ms / 1000, 0, 0))
        bus.emit(RecordsFinished(1, 1, 1, oldest_latency_s=ms / 100))
    bus.emit(RecordsFinished(9, 0, 0))
    seen = statistics.snapshot()
    assert seen.task_p50_s == pytest.approx(0.5, rel=0.05)
    assert seen.task_p99_s == pytest.approx(0.99, rel=0.05)
    assert seen.record_p50_s == pytest.approx(5, rel=0.05)
    assert seen.record_p99_s == pytest.approx(9.9, rel=0.05)


def test_a_run_that_did_nothing_has_zeros(statistics: Statistics) -> None:
    """Nothing divides by zero."""
    seen = statistics.snapshot()
    assert seen.totals == Totals()
    assert (seen.task_p50_s, seen.record_p99_s, seen.records_read_per_s, seen.uptime_s) == (0, 0, 0, 0)


def test_a_reading_waits_for_the_event_being_counted(clock: Clock) -> None:
    """A snapshot never shows half of an event: while one is counted, on whichever thread, a reader waits."""
    halfway, go_on = threading.Event(), threading.Event()

    class SlowClock(Clock):
        def __call__(self) -> float:
            if threading.current_thread() is feeder:
                halfway.set()
                go_on.wait(10)
            return self.now

    def read() -> None:
        seen.append(statistics.snapshot().records_read_per_s)

    seen: list[float] = []
    bus = Bus()
    feeder = threading.Thread(target=lambda: bus.emit(RecordsConsumed(("in", 0), 10, 1)))
    reader = threading.Thread(target=read)
    statistics = Statistics(window_s=10, clock=SlowClock())
    statistics.listen(bus)
    feeder.start()
    assert halfway.wait(10)  # the totals have the records, the rate has not
    reader.start()
    reader.join(0.05)
    assert seen == []
    go_on.set()
    feeder.join(10)
    reader.join(10)
    assert seen == [10.0]
