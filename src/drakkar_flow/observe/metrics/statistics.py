"""Statistics of a run: totals, rates and latencies, for the progress lines and the summary."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, TypeVar

from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.hooks import HookRan
from drakkar_flow.observe.events.lifecycle import StateChanged
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
    CommitFailed,
    Committed,
    PartitionsAssigned,
    PartitionsRevoked,
    RecordsConsumed,
)
from drakkar_flow.observe.events.tasks import TaskFinished, TaskRetried, TasksCompleted, TasksPrecomputed, TasksStarted
from drakkar_flow.observe.metrics.histogram import LogHistogram
from drakkar_flow.observe.metrics.rate import SlidingRate

__all__ = ["SinkTotals", "Statistics", "StatisticsSnapshot", "Totals"]

E = TypeVar("E", bound=Event)


@dataclass(slots=True)
class Totals:
    """Totals since the start."""

    state: str = ""
    assigned: int = 0
    records_read: int = 0
    bytes_read: int = 0
    records_done: int = 0
    records_skipped: int = 0
    records_dead: int = 0
    records_failed: int = 0
    tasks_started: int = 0
    tasks_completed: int = 0
    tasks_failed: int = 0
    tasks_cancelled: int = 0
    tasks_precomputed: int = 0
    task_retries: int = 0
    hook_errors: int = 0
    commit_failures: int = 0
    dead_letters: int = 0
    dead_letters_dropped: int = 0

    @property
    def records_finished(self) -> int:
        """Number of finished records, with any status."""
        return self.records_done + self.records_skipped + self.records_dead


@dataclass(slots=True)
class SinkTotals:
    """Totals of one sink in payloads; `retries` counts batches."""

    written: int = 0
    failed: int = 0
    skipped: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class StatisticsSnapshot:
    """Immutable copy of the statistics at one time.

    `sinks` is by (type, name); `committed` has the offset last committed by this worker, by partition.
    Rates are per second over the last window. Latencies are in seconds, within 4 %, over the whole
    run, 0.0 without records; records that finished together count with the oldest of them.
    """

    uptime_s: float
    totals: Totals
    sinks: dict[tuple[str, str], SinkTotals]
    committed: dict[TopicPartition, int]
    records_read_per_s: float
    records_finished_per_s: float
    tasks_finished_per_s: float
    task_p50_s: float
    task_p99_s: float
    record_p50_s: float
    record_p99_s: float


class Statistics:
    """Counts the events of a bus; safe from any thread.

    >>> bus, statistics = Bus(), Statistics()
    >>> statistics.listen(bus)
    >>> bus.emit(RecordsFinished(done=3, skipped=1, dead=0, oldest_latency_s=0.5))
    >>> statistics.snapshot().totals.records_finished
    4
    """

    def __init__(self, *, window_s: int = 10, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started_at = now = clock()
        self._lock = Lock()
        self._totals = Totals()
        self._sinks: defaultdict[tuple[str, str], SinkTotals] = defaultdict(SinkTotals)
        self._committed: dict[TopicPartition, int] = {}
        self._read_rate = SlidingRate(window_s, now)
        self._finished_rate = SlidingRate(window_s, now)
        self._task_rate = SlidingRate(window_s, now)
        self._task_latency = LogHistogram()
        self._record_latency = LogHistogram()

    def snapshot(self) -> StatisticsSnapshot:
        """Return the current statistics."""
        with self._lock:
            now = self._clock()
            return StatisticsSnapshot(
                uptime_s=now - self._started_at,
                totals=replace(self._totals),
                sinks={key: replace(sink) for key, sink in self._sinks.items()},
                committed=dict(self._committed),
                records_read_per_s=self._read_rate.per_second(now),
                records_finished_per_s=self._finished_rate.per_second(now),
                tasks_finished_per_s=self._task_rate.per_second(now),
                task_p50_s=self._task_latency.quantile(0.5),
                task_p99_s=self._task_latency.quantile(0.99),
                record_p50_s=self._record_latency.quantile(0.5),
                record_p99_s=self._record_latency.quantile(0.99),
            )

    def listen(self, bus: Bus) -> None:
        """Subscribe to `bus` and count its events from now on."""
        self._add(bus, StateChanged, self._on_state)
        self._add(bus, PartitionsAssigned, self._on_assignment)
        self._add(bus, PartitionsRevoked, self._on_assignment)
        self._add(bus, RecordsConsumed, self._on_consumed)
        self._add(bus, RecordsFinished, self._on_finished)
        self._add(bus, RecordsFailed, self._on_failed)
        self._add(bus, Committed, self._on_committed)
        self._add(bus, CommitFailed, self._on_commit_failed)
        self._add(bus, TasksStarted, self._on_tasks_started)
        self._add(bus, TasksPrecomputed, self._on_precomputed)
        self._add(bus, TaskFinished, self._on_task_finished)
        self._add(bus, TasksCompleted, self._on_tasks_completed)
        self._add(bus, TaskRetried, self._on_task_retried)
        self._add(bus, HookRan, self._on_hook_ran)
        self._add(bus, DeliveriesWritten, self._on_written)
        self._add(bus, DeliveryRetried, self._on_delivery_retried)
        self._add(bus, DeliveriesFailed, self._on_deliveries_failed)
        self._add(bus, DeliveriesSkipped, self._on_deliveries_skipped)
        self._add(bus, DeadLettersWritten, self._on_dead_letters)
        self._add(bus, DeadLetterFailed, self._on_dead_letter_failed)

    def _add(self, bus: Bus, kind: type[E], count: Callable[[E], Any]) -> None:
        def locked(event: E) -> None:
            with self._lock:
                count(event)

        bus.listen(kind, locked)

    def _on_state(self, event: StateChanged) -> None:
        self._totals.state = event.state

    def _on_assignment(self, event: PartitionsAssigned | PartitionsRevoked) -> None:
        self._totals.assigned = event.total

    def _on_consumed(self, event: RecordsConsumed) -> None:
        self._totals.records_read += event.count
        self._totals.bytes_read += event.size
        self._read_rate.add(event.count, self._clock())

    def _on_finished(self, event: RecordsFinished) -> None:
        self._totals.records_done += event.done
        self._totals.records_skipped += event.skipped
        self._totals.records_dead += event.dead
        count = event.done + event.skipped + event.dead
        self._finished_rate.add(count, self._clock())
        if event.oldest_latency_s is not None:
            self._record_latency.add(event.oldest_latency_s, count)

    def _on_failed(self, event: RecordsFailed) -> None:
        self._totals.records_failed += event.new

    def _on_committed(self, event: Committed) -> None:
        self._committed.update(event.offsets)

    def _on_commit_failed(self, _: CommitFailed) -> None:
        self._totals.commit_failures += 1

    def _on_tasks_started(self, event: TasksStarted) -> None:
        self._totals.tasks_started += event.count

    def _on_precomputed(self, event: TasksPrecomputed) -> None:
        self._totals.tasks_precomputed += event.count

    def _on_task_finished(self, event: TaskFinished) -> None:
        if event.status == "cancelled":  # a cancelled task did not finish and has no duration
            self._totals.tasks_cancelled += 1
            return
        if event.status == "failed":
            self._totals.tasks_failed += 1
        else:
            self._totals.tasks_completed += 1
        self._task_rate.add(1, self._clock())
        self._task_latency.add(event.duration_s)

    def _on_tasks_completed(self, event: TasksCompleted) -> None:
        durations = event.durations_s
        self._totals.tasks_completed += len(durations)
        self._task_rate.add(len(durations), self._clock())
        for duration_s in durations:
            self._task_latency.add(duration_s)

    def _on_task_retried(self, _: TaskRetried) -> None:
        self._totals.task_retries += 1

    def _on_hook_ran(self, event: HookRan) -> None:
        self._totals.hook_errors += bool(event.error)

    def _on_written(self, event: DeliveriesWritten) -> None:
        self._sinks[event.sink_type, event.sink_name].written += event.count

    def _on_delivery_retried(self, event: DeliveryRetried) -> None:
        self._sinks[event.sink_type, event.sink_name].retries += 1

    def _on_deliveries_failed(self, event: DeliveriesFailed) -> None:
        self._sinks[event.sink_type, event.sink_name].failed += event.count

    def _on_deliveries_skipped(self, event: DeliveriesSkipped) -> None:
        self._sinks[event.sink_type, event.sink_name].skipped += event.count

    def _on_dead_letters(self, event: DeadLettersWritten) -> None:
        self._totals.dead_letters += event.count

    def _on_dead_letter_failed(self, event: DeadLetterFailed) -> None:
        if event.dropped:
            self._totals.dead_letters_dropped += event.count
