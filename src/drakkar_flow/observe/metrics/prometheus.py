"""Prometheus metrics: a listener that updates the metrics of `metric_specs` from events.

The series of a partition are removed when it is revoked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Enum,
    Gauge,
    Info,
)
from prometheus_client.metrics import MetricWrapperBase

from drakkar_flow.errors import Problem, StartupError
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.annotations import Annotated, AnnotationDropped
from drakkar_flow.observe.events.executor import ChildEnded, ChildStarted, ExecutorBreakerChanged, HostShortage
from drakkar_flow.observe.events.hooks import HookRan, HooksRan, Offloaded, PeriodicRan
from drakkar_flow.observe.events.lifecycle import (
    DrainFinished,
    ListenerFailed,
    ListenerLagged,
    LogLineLost,
    StateChanged,
)
from drakkar_flow.observe.events.recorder import RecorderChanged, RecorderDropped, RecorderStarted
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
    BrokerStateChanged,
    CommitFailed,
    Committed,
    ConsumerError,
    IntakePaused,
    PartitionsAssigned,
    PartitionsRevoked,
    RecordsConsumed,
    RecordsKnownFinished,
)
from drakkar_flow.observe.events.stalls import Idled, LoopAnswered, Stalled
from drakkar_flow.observe.events.state import StateRestored
from drakkar_flow.observe.events.tasks import (
    DuplicateTasks,
    TaskFellBack,
    TaskFinished,
    TaskRetried,
    TasksCompleted,
    TasksPrecomputed,
    TasksStarted,
    WindowFinished,
)
from drakkar_flow.observe.metrics.cache import CacheMetrics
from drakkar_flow.observe.metrics.collectors import (
    BulkHistogram,
    PlainCounter,
    PlainGauge,
    RuntimeCollector,
    RuntimeGauges,
    SharedMetrics,
)
from drakkar_flow.observe.metrics.metric_specs import METRICS, OUTLASTING, PARTITION, MetricSpec

__all__ = ["Metrics", "user_metrics"]

PREFIX = "drakkar_"
STATES = ("starting", "running", "draining", "stopped", "failed")
_RECORDER = {"full": 2, "without_details": 1, "off": 0}
_BREAKER = {"closed": 0.0, "half_open": 0.5, "open": 1.0}


class Metrics:
    """Holds the metrics of one run in `registry` and updates them from a bus; safe from any thread.

    Without a registry it makes one that also serves prometheus_client's default registry: the metrics
    of the user's modules and those of the process, the platform and garbage collection.

    >>> bus, metrics = Bus(), Metrics()
    >>> metrics.listen(bus)
    >>> bus.emit(RecordsConsumed(topic_partition=("in", 3), count=20, size=999))
    >>> metrics.registry.get_sample_value("drakkar_messages_consumed_total", {"topic": "in", "partition": "3"})
    20.0
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._user_names: set[str] = set()
        self.registry = CollectorRegistry() if registry is None else registry
        if registry is None:
            self.registry.register(SharedMetrics(PREFIX, self._user_names))
        self._runtime = RuntimeCollector(PREFIX)
        self.registry.register(self._runtime)
        self._counters: dict[str, PlainCounter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._breaker_states: dict[str, dict[str, float]] = {}
        self._shortages: dict[tuple[str, str], set[str]] = {}  # executors by part and resource
        self._histograms: dict[str, BulkHistogram] = {}
        for name, spec in METRICS.items():
            if name not in self._runtime.names:
                self._make(name, spec)
        self._state = Enum(PREFIX + "state", "State of the runtime", states=STATES, registry=self.registry)
        self._worker = Info(PREFIX + "worker", "Identity of this process", registry=self.registry)
        self._lane_lock = Lock()
        self._revoked: set[TopicPartition] = set()  # late events of these must not create series

    def _make(self, name: str, spec: MetricSpec) -> None:
        match spec.type:
            case "counter":
                self._counters[name] = PlainCounter(PREFIX + name, spec.help, spec.labels)
                self.registry.register(self._counters[name])
            case "gauge" if name == "executor_breaker_state":
                self._breakers = PlainGauge(PREFIX + name, spec.help, spec.labels)
                self.registry.register(self._breakers)
            case "gauge" if name == "recorder_state":
                self._recorder = PlainGauge(PREFIX + name, spec.help, spec.labels)
                self._recorder.remove(())  # a recorder that is off on purpose must not look like one that failed
                self.registry.register(self._recorder)
            case "gauge":
                self._gauges[name] = Gauge(PREFIX + name, spec.help, spec.labels, registry=self.registry)
            case "histogram":
                self._histograms[name] = BulkHistogram(PREFIX + name, spec.help, spec.labels, spec.buckets)
                self.registry.register(self._histograms[name])

    def describe_worker(self, *, worker_id: str, version: str, consumer_group: str) -> None:
        """Set the labels of `drakkar_worker_info`."""
        self._worker.info({"worker_id": worker_id, "version": version, "consumer_group": consumer_group})

    def describe_sinks(self, sinks: Iterable[tuple[str, str]]) -> None:
        """Export the circuit breakers of sinks, by type and name, as closed until they open."""
        for sink_type, sink_name in sinks:
            self._gauges["sink_circuit_open"].labels(sink_type, sink_name).set(0)

    def watch(self, read: Callable[[], RuntimeGauges]) -> None:
        """Read the runtime's gauges with `read` at each scrape; it is called on other threads and must not raise."""
        self._runtime.read = read

    def add_user_metrics(self, handler: object) -> dict[str, MetricWrapperBase]:
        """Serve the metrics that `user_metrics` finds, and return them.

        Raises:
            StartupError: a metric has the name of another one; exit code 2.
        """
        found = user_metrics(handler)
        problems = [
            Problem(f"{_class_of(handler).__name__}.{name}", str(error), "rename the metric")
            for name, metric in found.items()
            if (error := self._register(metric)) is not None
        ]
        if problems:
            raise StartupError(problems, exit_code=2)
        return found

    def listen(self, bus: Bus) -> None:
        """Subscribe to `bus` and update the metrics from now on."""
        bus.listen(StateChanged, lambda e: self._state.state(e.state))
        self._listen_to_source(bus)
        bus.listen(RecordsFinished, self._on_finished)
        bus.listen(RecordsFailed, self._on_failed)
        bus.listen(Committed, self._on_committed)
        bus.listen(LogLineLost, lambda _: self._count("log_lines_lost"))
        bus.listen(CommitFailed, lambda _: self._count("commit_failures"))
        bus.listen(TasksStarted, lambda e: self._count("executor_tasks", "started", *_of(e), by=e.count))
        bus.listen(TasksPrecomputed, lambda e: self._count("tasks_precomputed", by=e.count))
        bus.listen(TaskFinished, self._on_task_finished)
        bus.listen(DuplicateTasks, lambda e: self._count("duplicate_tasks", by=e.count))
        bus.listen(TasksCompleted, self._on_tasks_completed)
        bus.listen(TaskFellBack, lambda e: self._count("executor_tasks_fallen_back", *_of(e)))
        bus.listen(ChildStarted, lambda e: self._count("executor_children_started", *_of(e)))
        bus.listen(
            ChildEnded,
            lambda e: self._count("executor_children_ended", "failed" if e.failed else "done", *_of(e)),
        )
        self._listen_to_troubles(bus)
        CacheMetrics(self._count, self._gauges).listen(bus)
        bus.listen(TaskRetried, lambda _: self._count("task_retries"))
        bus.listen(HookRan, self._on_hook_ran)
        bus.listen(HooksRan, self._on_hooks_ran)
        bus.listen(PeriodicRan, self._on_periodic_ran)
        bus.listen(Offloaded, lambda e: self._observe("offload_duration_seconds", e.duration_s, e.hook))
        bus.listen(Annotated, lambda _: self._count("recorder_annotations"))
        bus.listen(AnnotationDropped, lambda e: self._count("recorder_annotations_dropped", e.reason))
        bus.listen(WindowFinished, lambda e: self._observe("batch_duration_seconds", e.duration_s))
        bus.listen(DeliveriesWritten, self._on_written)
        bus.listen(DeliveryRetried, self._on_delivery_retried)
        bus.listen(DeliveriesFailed, self._on_deliveries_failed)
        bus.listen(
            DeliveriesSkipped,
            lambda e: self._count("sink_deliveries_skipped", e.sink_type, e.sink_name, by=e.count),
        )
        bus.listen(SinkCircuitChanged, self._on_circuit)
        bus.listen(DeadLettersWritten, lambda e: self._count("sink_dlq_messages", by=e.count))
        bus.listen(DeadLetterFailed, self._on_dead_letter_failed)
        bus.listen(DeliveriesSuppressed, self._on_suppressed)
        bus.listen(DrainFinished, self._on_drained)
        bus.listen(Idled, self._on_idled)
        bus.listen(LoopAnswered, lambda e: self._observe("loop_lag_seconds", e.after_s))
        bus.listen(Stalled, lambda e: self._count("runtime_stalls", e.what))

    def _count(self, name: str, *labels: str, by: float = 1) -> None:
        self._counters[name].inc(labels, by)

    def _count_partition(self, name: str, topic_partition: TopicPartition, by: int) -> None:
        with self._lane_lock:
            if topic_partition not in self._revoked:
                self._count(name, topic_partition[0], str(topic_partition[1]), by=by)

    def _observe(self, name: str, value: float, *labels: str, count: int = 1) -> None:
        self._histograms[name].observe(value, labels, count)

    def _on_assigned(self, event: PartitionsAssigned) -> None:
        with self._lane_lock:
            self._revoked.difference_update(event.topic_partitions)
        self._gauges["assigned_partitions"].set(event.total)
        self._count("rebalance_events", "assign")

    def _on_state_restored(self, event: StateRestored) -> None:
        self._observe("state_restore_seconds", event.duration_s)
        self._count_partition("state_restored_keys", event.topic_partition, event.keys)

    def _on_revoked(self, event: PartitionsRevoked) -> None:
        with self._lane_lock:
            self._revoked.update(event.topic_partitions)
            for topic, partition in event.topic_partitions:
                self._forget_partition(topic, str(partition))
        self._gauges["assigned_partitions"].set(event.total)
        self._count("rebalance_events", "lost" if event.lost else "revoke")

    def _forget_partition(self, topic: str, partition: str) -> None:
        for name, spec in METRICS.items():
            if spec.labels == PARTITION and spec.type == "counter" and name not in OUTLASTING:
                self._counters[name].remove((topic, partition))

    def _on_consumed(self, event: RecordsConsumed) -> None:
        self._count_partition("messages_consumed", event.topic_partition, event.count)
        self._count_partition("bytes_consumed", event.topic_partition, event.size)

    def _on_known_finished(self, event: RecordsKnownFinished) -> None:
        self._count_partition("messages_known_finished", event.topic_partition, event.count)

    def _on_finished(self, event: RecordsFinished) -> None:
        self._count("records_finished", "done", by=event.done)
        self._count("records_finished", "skipped", by=event.skipped)
        self._count("records_finished", "dead", by=event.dead)
        if event.oldest_latency_s is not None:
            finished = event.done + event.skipped + event.dead
            self._observe("record_latency_seconds", event.oldest_latency_s, count=finished)

    def _on_failed(self, event: RecordsFailed) -> None:
        self._count("records_failed", event.kind, event.stage, by=event.new)
        if event.kind == "decode":
            self._count_partition("message_parse_failures", event.topic_partition, event.count)

    def _on_committed(self, event: Committed) -> None:
        for topic_partition, _ in event.offsets:
            self._count_partition("offsets_committed", topic_partition, 1)

    def _on_task_finished(self, event: TaskFinished) -> None:
        of = _of(event)
        self._count("executor_tasks", event.status, *of)
        if event.status != "cancelled":
            self._observe("executor_duration_seconds", event.duration_s, *of)
        self._observe("executor_queue_wait_seconds", event.queue_wait_s, *of)
        if event.spawn_s > 0:
            self._observe("executor_spawn_seconds", event.spawn_s, *of)
        if event.kind == "timeout":
            self._count("executor_timeouts", *of)
        if event.stdout_truncated:
            self._count("executor_output_truncated", "stdout", *of)
        if event.stderr_truncated:
            self._count("executor_output_truncated", "stderr", *of)

    def _on_tasks_completed(self, event: TasksCompleted) -> None:
        of = _of(event)
        self._count("executor_tasks", "completed", *of, by=len(event.durations_s))
        self._histograms["executor_duration_seconds"].observe_all(event.durations_s, of)
        self._histograms["executor_queue_wait_seconds"].observe_all(event.queue_waits_s, of)

    def _listen_to_source(self, bus: Bus) -> None:
        bus.listen(BrokerStateChanged, lambda e: self._gauges["broker_up"].set(e.up))
        bus.listen(ConsumerError, lambda _: self._count("consumer_errors"))
        bus.listen(PartitionsAssigned, self._on_assigned)
        bus.listen(PartitionsRevoked, self._on_revoked)
        bus.listen(IntakePaused, lambda e: self._gauges["backpressure_active"].set(e.paused))
        bus.listen(RecordsConsumed, self._on_consumed)
        bus.listen(RecordsKnownFinished, self._on_known_finished)
        bus.listen(StateRestored, self._on_state_restored)

    def _listen_to_troubles(self, bus: Bus) -> None:
        bus.listen(RecorderStarted, lambda _: self._recorder.set((), 2))
        bus.listen(RecorderChanged, lambda e: self._recorder.set((), _RECORDER[e.state]))
        bus.listen(RecorderDropped, lambda e: self._count("recorder_dropped_events", e.kind, by=e.count))
        bus.listen(ListenerFailed, lambda e: self._count("listener_errors", e.listener))
        bus.listen(ListenerLagged, lambda e: self._count("listener_events_dropped", e.listener, by=e.dropped))
        bus.listen(ExecutorBreakerChanged, self._on_breaker)
        bus.listen(HostShortage, self._on_host_shortage)

    def _on_breaker(self, event: ExecutorBreakerChanged) -> None:
        known = self._breaker_states.setdefault(event.executor_name, {})
        known[event.executor] = _BREAKER[event.state]
        self._breakers.set(_of(event), max(known.values()))

    def _on_host_shortage(self, event: HostShortage) -> None:
        executors = self._shortages.setdefault((event.part, event.lacks), set())
        (executors.discard if event.over else executors.add)(event.executor_name)
        self._gauges["host_shortage"].labels(event.part, event.lacks).set(bool(executors))

    def _on_hook_ran(self, event: HookRan) -> None:
        if event.duration_s is not None:
            self._observe("handler_duration_seconds", event.duration_s, event.hook)
        if event.error:
            self._count("handler_hook_errors", event.hook)
            if event.hook == "task_priority":
                self._count("executor_priority_fn_errors")

    def _on_periodic_ran(self, event: PeriodicRan) -> None:
        self._count("periodic_task_runs", event.name, "error" if event.error else "ok")
        self._observe("periodic_task_duration_seconds", event.duration_s, event.name)

    def _on_hooks_ran(self, event: HooksRan) -> None:
        if event.count:
            self._observe("handler_duration_seconds", event.duration_s / event.count, event.hook, count=event.count)

    def _on_written(self, event: DeliveriesWritten) -> None:
        self._count("sink_payloads_delivered", event.sink_type, event.sink_name, by=event.count)
        self._observe("sink_deliver_duration_seconds", event.duration_s, event.sink_type, event.sink_name)

    def _on_delivery_retried(self, event: DeliveryRetried) -> None:
        self._count("sink_delivery_retries", event.sink_type, event.sink_name)
        self._count("sink_deliver_errors", event.sink_type, event.sink_name)

    def _on_deliveries_failed(self, event: DeliveriesFailed) -> None:
        self._count("sink_payloads_failed", event.sink_type, event.sink_name, by=event.count)
        self._count("sink_deliver_errors", event.sink_type, event.sink_name)

    def _on_circuit(self, event: SinkCircuitChanged) -> None:
        self._gauges["sink_circuit_open"].labels(event.sink_type, event.sink_name).set(_BREAKER[event.state])
        if event.state == "open":
            self._count("sink_circuit_trips", event.sink_type, event.sink_name)

    def _on_dead_letter_failed(self, event: DeadLetterFailed) -> None:
        self._count("dlq_send_failures", by=event.count)
        if event.dropped:
            for topic_partition, count in event.topic_partitions:
                self._count_partition("dlq_dropped_payloads", topic_partition, count)

    def _on_suppressed(self, event: DeliveriesSuppressed) -> None:
        for (
            topic,
            partition,
        ), count in event.topic_partitions:  # partitions that were revoked
            self._count("suppressed_zombie_deliveries", topic, str(partition), by=count)

    def _on_drained(self, event: DrainFinished) -> None:
        self._gauges["inflight_at_stop"].set(event.unfinished)
        self._gauges["uncommitted_offsets_at_stop"].set(event.unfinished + event.uncommitted)
        if event.unfinished:
            self._count("drain_timeout_hit")

    def _on_idled(self, event: Idled) -> None:
        self._count("executor_idle_slot_seconds", by=event.slots_s)
        self._count("consumer_idle_seconds", by=event.consumer_s)

    def _register(self, metric: MetricWrapperBase) -> ValueError | None:
        """Register `metric` and return the error; a metric that is registered already is not an error."""
        (mine,) = metric.describe()
        self._user_names.add(mine.name)
        try:
            self.registry.register(metric)
        except ValueError as error:
            same = (mine.name, mine.type, mine.documentation)
            known = any((it.name, it.type, it.documentation) == same for it in self.registry.collect())
            return None if known else error
        return None


def _of(event: Any) -> tuple[str, ...]:
    """Return the label of an event's executor; empty for the default one."""
    return (event.executor_name,) if event.executor_name else ()


def user_metrics(handler: object) -> dict[str, MetricWrapperBase]:
    """Return the prometheus_client metrics that are class attributes of a handler or its class, by attribute.

    Inherited attributes count; names that start with `_` do not.

    >>> from prometheus_client import Counter
    >>> class Handler:
    ...     scanned = Counter("scanned_files", "Files scanned", registry=None)
    ...     _hidden = Counter("hidden", "Not for others", registry=None)
    >>> list(user_metrics(Handler()))
    ['scanned']
    """
    found: dict[str, object] = {}
    for klass in reversed(_class_of(handler).__mro__):
        found.update(vars(klass))
    return {name: it for name, it in found.items() if isinstance(it, MetricWrapperBase) and not name.startswith("_")}


def _class_of(handler: object) -> type:
    return handler if isinstance(handler, type) else type(handler)
