"""What each event does to which metric."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.executor import ChildEnded, ChildStarted, ExecutorBreakerChanged
from drakkar_flow.observe.events.hooks import HookRan, HooksRan
from drakkar_flow.observe.events.lifecycle import DrainFinished, StateChanged
from drakkar_flow.observe.events.recorder import RecorderChanged, RecorderStarted
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
from drakkar_flow.observe.metrics.collectors import BulkHistogram, PlainCounter, RuntimeGauges
from drakkar_flow.observe.metrics.prometheus import Metrics

LANE = ("in", 3)
SINK = {"sink_type": "kafka", "sink_name": "out"}
AT_SCRAPE = RuntimeGauges(
    in_flight_records=12,
    in_flight_bytes=3400,
    executor_running=4,
    executor_waiting=2,
    executor_slots=8,
    health=2,
    queued={LANE: 5, ("in", 4): 1},
    pending={LANE: 9},
    lag={LANE: 1000},
    oldest_s={LANE: 1.5, ("in", 4): 0.5},
    stale_s={LANE: 0.75},
    ranges={LANE: 4},
    state={LANE: (7, 210)},
)


class Scene:
    """A bus with metrics on it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.bus = Bus(on_error=self._fail)
        self.errors: list[Exception] = []
        self.metrics.listen(self.bus)

    def _fail(self, _: Event, exc: Exception) -> None:
        self.errors.append(exc)

    def emit(self, *events: Event) -> None:
        """Emit events, none of which may raise in the listener."""
        for event in events:
            self.bus.emit(event)
        assert self.errors == []

    def value(self, name: str, **labels: str) -> float | None:
        """The value of one series, None when it does not exist."""
        return self.registry.get_sample_value(f"drakkar_{name}", labels)


@pytest.fixture
def scene() -> Scene:
    """A fresh bus with metrics on it."""
    return Scene()


def test_every_metric_explains_itself(scene: Scene) -> None:
    """Each metric has a help text."""
    scene.metrics.watch(RuntimeGauges)
    assert all(len(family.documentation) > 10 for family in scene.registry.collect())


def test_what_is_named_is_reserved_before_it_has_samples(scene: Scene) -> None:
    """A name clash shows when the metric is made, not when it is scraped."""
    for name in ("drakkar_consumer_lag", "drakkar_in_flight_records", "drakkar_batch_duration_seconds"):
        with pytest.raises(ValueError, match="Duplicated"):
            Gauge(name, "Mine", registry=scene.registry)


def test_a_circuit_is_shown_closed_before_it_ever_opens(scene: Scene) -> None:
    """So that a query of a healthy sink finds something."""
    scene.metrics.describe_sinks([("kafka", "out")])
    assert scene.value("sink_circuit_open", **SINK) == 0


@pytest.mark.parametrize(
    ("event", "name", "labels", "value"),
    [
        (StateChanged("draining"), "state", {"drakkar_state": "draining"}, 1),
        (BrokerStateChanged(up=True), "broker_up", {}, 1),
        (ConsumerError("x"), "consumer_errors_total", {}, 1),
        (PartitionsAssigned((LANE, ("in", 4)), total=2), "assigned_partitions", {}, 2),
        (PartitionsAssigned((LANE,), total=1), "rebalance_events_total", {"type": "assign"}, 1),
        (PartitionsRevoked((LANE,), total=0), "rebalance_events_total", {"type": "revoke"}, 1),
        (PartitionsRevoked((LANE,), total=0, lost=True), "rebalance_events_total", {"type": "lost"}, 1),
        (PartitionsRevoked((LANE,), total=5), "assigned_partitions", {}, 5),
        (IntakePaused(paused=True, in_flight=9), "backpressure_active", {}, 1),
        (RecordsConsumed(LANE, 20, 400), "messages_consumed_total", {"topic": "in", "partition": "3"}, 20),
        (RecordsKnownFinished(LANE, 7), "messages_known_finished_total", {"topic": "in", "partition": "3"}, 7),
        (RecordsConsumed(LANE, 20, 400), "bytes_consumed_total", {"topic": "in", "partition": "3"}, 400),
        (RecordsFinished(7, 2, 1), "records_finished_total", {"status": "done"}, 7),
        (RecordsFinished(7, 2, 1), "records_finished_total", {"status": "skipped"}, 2),
        (RecordsFinished(7, 2, 1), "records_finished_total", {"status": "dead"}, 1),
        (RecordsFinished(7, 2, 1), "record_latency_seconds_count", {}, 0),
        (RecordsFinished(7, 2, 1, 0.2), "record_latency_seconds_count", {}, 10),
        (
            RecordsFailed("decode", "decode", LANE, 3, "x", "in:3:1"),
            "message_parse_failures_total",
            {"topic": "in", "partition": "3"},
            3,
        ),
        (
            RecordsFailed("hook", "collect", LANE, 3, "x", "in:3:1"),
            "message_parse_failures_total",
            {"topic": "in", "partition": "3"},
            None,
        ),
        (
            RecordsFailed("hook", "collect", LANE, 3, "x", "in:3:1"),
            "records_failed_total",
            {"kind": "hook", "stage": "collect"},
            3,
        ),
        (Committed(((LANE, 42),)), "offsets_committed_total", {"topic": "in", "partition": "3"}, 1),
        (CommitFailed("x"), "commit_failures_total", {}, 1),
        (TasksStarted(5), "executor_tasks_total", {"status": "started"}, 5),
        (TasksPrecomputed(4), "tasks_precomputed_total", {}, 4),
        (TaskFinished("completed", "", 2, 0, 0), "executor_tasks_total", {"status": "completed"}, 1),
        (TaskFinished("failed", "timeout", 2, 0, 0), "executor_tasks_total", {"status": "failed"}, 1),
        (TaskFinished("failed", "timeout", 2, 0, 0), "executor_timeouts_total", {}, 1),
        (TaskFinished("failed", "signal", 2, 0, 0), "executor_timeouts_total", {}, 0),
        (TaskFinished("completed", "", 2, 0, 0), "executor_duration_seconds_bucket", {"le": "2.0"}, 1),
        (TaskFinished("completed", "", 2, 0, 0), "executor_duration_seconds_bucket", {"le": "1.0"}, 0),
        (TaskFinished("completed", "", 2, 0.02, 0), "executor_queue_wait_seconds_sum", {}, 0.02),
        (TaskFinished("completed", "", 2, 0, 0.003), "executor_spawn_seconds_sum", {}, 0.003),
        (TaskFinished("failed", "launch_failure", 2, 0, 0), "executor_spawn_seconds_count", {}, 0),
        (TaskFinished("completed", "", 2, 0, 0, True), "executor_output_truncated_total", {"stream": "stdout"}, 1),
        (
            TaskFinished("completed", "", 2, 0, 0, False, True),
            "executor_output_truncated_total",
            {"stream": "stderr"},
            1,
        ),
        (TaskRetried("t", 1), "task_retries_total", {}, 1),
        (DuplicateTasks(("in", 3), 2, "t"), "duplicate_tasks_total", {}, 2),
        (HookRan("arrange", 0.02), "handler_duration_seconds_sum", {"hook": "arrange"}, 0.02),
        (HookRan("arrange", 0.02), "handler_hook_errors_total", {"hook": "arrange"}, None),
        (HookRan("arrange", 0.02, "x"), "handler_hook_errors_total", {"hook": "arrange"}, 1),
        (HooksRan("collect", 10, 0.02), "handler_duration_seconds_count", {"hook": "collect"}, 10),
        (HooksRan("collect", 10, 0.02), "handler_duration_seconds_bucket", {"hook": "collect", "le": "0.001"}, 0),
        (HooksRan("collect", 10, 0.02), "handler_duration_seconds_bucket", {"hook": "collect", "le": "0.005"}, 10),
        (HooksRan("collect", 0, 0.0), "handler_duration_seconds_count", {"hook": "collect"}, None),
        (WindowFinished(LANE, 20, 20, 1.5), "batch_duration_seconds_bucket", {"le": "2.0"}, 1),
        (
            DeliveriesWritten("kafka", "out", 30, 0.004),
            "sink_payloads_delivered_total",
            {"sink_type": "kafka", "sink_name": "out"},
            30,
        ),
        (
            DeliveriesWritten("kafka", "out", 30, 0.004),
            "sink_deliver_duration_seconds_bucket",
            {"sink_type": "kafka", "sink_name": "out", "le": "0.005"},
            1,
        ),
        (
            DeliveryRetried("kafka", "out", 30, 1, 0.5, "x"),
            "sink_delivery_retries_total",
            {"sink_type": "kafka", "sink_name": "out"},
            1,
        ),
        (
            DeliveryRetried("kafka", "out", 30, 1, 0.5, "x"),
            "sink_deliver_errors_total",
            {"sink_type": "kafka", "sink_name": "out"},
            1,
        ),
        (
            DeliveriesFailed("kafka", "out", 6, "x"),
            "sink_deliver_errors_total",
            {"sink_type": "kafka", "sink_name": "out"},
            1,
        ),
        (
            DeliveriesFailed("kafka", "out", 6, "x"),
            "sink_payloads_failed_total",
            {"sink_type": "kafka", "sink_name": "out"},
            6,
        ),
        (
            DeliveriesSkipped("kafka", "out", 2),
            "sink_deliveries_skipped_total",
            {"sink_type": "kafka", "sink_name": "out"},
            2,
        ),
        *(
            (SinkCircuitChanged("kafka", "out", state, 5, waits=False), name, SINK, value)
            for state, shown, trips in (("closed", 0, None), ("half_open", 0.5, None), ("open", 1, 1))
            for name, value in (("sink_circuit_open", shown), ("sink_circuit_trips_total", trips))
        ),
        (DeadLettersWritten(3), "sink_dlq_messages_total", {}, 3),
        (DeadLetterFailed(2, "x", dropped=False), "dlq_send_failures_total", {}, 2),
        (
            DeadLetterFailed(2, "x", False, ((LANE, 2),)),
            "dlq_dropped_payloads_total",
            {"topic": "in", "partition": "3"},
            None,
        ),
        (
            DeadLetterFailed(2, "x", True, ((LANE, 2),)),
            "dlq_dropped_payloads_total",
            {"topic": "in", "partition": "3"},
            2,
        ),
        (
            DeliveriesSuppressed(3, topic_partitions=((LANE, 3),)),
            "suppressed_zombie_deliveries_total",
            {"topic": "in", "partition": "3"},
            3,
        ),
        (Idled(slots_s=1.5, consumer_s=0.25), "executor_idle_slot_seconds_total", {}, 1.5),
        (Idled(slots_s=1.5, consumer_s=0.25), "consumer_idle_seconds_total", {}, 0.25),
        (LoopAnswered(0.02), "loop_lag_seconds_sum", {}, 0.02),
        (Stalled("loop", 5.0), "runtime_stalls_total", {"what": "loop"}, 1),
        (DrainFinished(11, 30.0, 4), "inflight_at_stop", {}, 11),
        (DrainFinished(11, 30.0, 4), "uncommitted_offsets_at_stop", {}, 15),
        (DrainFinished(11, 30.0), "drain_timeout_hit_total", {}, 1),
        (DrainFinished(0, 30.0), "drain_timeout_hit_total", {}, 0),
    ],
    ids=lambda it: type(it).__name__ if isinstance(it, Event) else None,
)
def test_an_event_changes_its_metric(
    scene: Scene, event: Event, name: str, labels: dict[str, str], value: float | None
) -> None:
    """One event moves the series it is about, by what it says."""
    scene.emit(event)
    assert scene.value(name, **labels) == (value if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("on", "off", "name"),
    [
        (BrokerStateChanged(up=True), BrokerStateChanged(up=False), "broker_up"),
        (IntakePaused(paused=True, in_flight=9), IntakePaused(paused=False, in_flight=1), "backpressure_active"),
    ],
)
def test_a_switch_goes_back(
    scene: Scene, on: BrokerStateChanged | IntakePaused, off: BrokerStateChanged | IntakePaused, name: str
) -> None:
    """What was switched on is switched off by the opposite event."""
    scene.emit(on, off)
    assert scene.value(name) == 0


def test_counters_add_up(scene: Scene) -> None:
    """Events of the same series add to it."""
    scene.emit(RecordsConsumed(LANE, 20, 400), RecordsConsumed(LANE, 5, 100))
    assert scene.value("messages_consumed_total", topic="in", partition="3") == 25


def test_series_of_a_revoked_partition_disappear_and_those_of_others_stay(scene: Scene) -> None:
    """After a rebalance, dashboards don't show partitions that somebody else works on."""
    other = ("in", 4)
    for topic_partition in (LANE, other):
        scene.emit(
            RecordsConsumed(topic_partition, 20, 400),
            Committed(((topic_partition, 42),)),
            RecordsFailed("decode", "decode", topic_partition, 1, "x", "label"),
        )
    scene.emit(PartitionsRevoked((LANE,), total=1))
    text = generate_latest(scene.registry).decode()
    assert 'partition="3"' not in text
    assert text.count('partition="4",topic="in"} ') >= 4


def test_late_events_of_a_revoked_partition_make_no_series_until_it_is_assigned_again(scene: Scene) -> None:
    """What still arrives for a partition that was taken away does not bring it back."""
    scene.emit(RecordsConsumed(LANE, 20, 400), PartitionsRevoked((LANE,), total=0), Committed(((LANE, 42),)))
    assert scene.value("offsets_committed_total", topic="in", partition="3") is None
    scene.emit(PartitionsAssigned((LANE,), total=1), RecordsConsumed(LANE, 7, 70))
    assert scene.value("messages_consumed_total", topic="in", partition="3") == 7


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("in_flight_records", {}, 12),
        ("in_flight_bytes", {}, 3400),
        ("oldest_in_flight_seconds", {}, 1.5),
        ("buffered_records", {}, 6),
        ("total_queued", {}, 12),
        ("executor_pool_active", {}, 4),
        ("executor_pool_waiting", {}, 2),
        ("executor_pool_max", {}, 8),
        ("partition_queue_size", {"topic": "in", "partition": "4"}, 1),
        ("offset_lag", {"topic": "in", "partition": "3"}, 9),
        ("consumer_lag", {"topic": "in", "partition": "3"}, 1000),
        ("partition_oldest_in_flight_seconds", {"topic": "in", "partition": "4"}, 0.5),
        ("partition_staleness_seconds", {"topic": "in", "partition": "3"}, 0.75),
        ("partition_finished_spans", {"topic": "in", "partition": "3"}, 4),
        ("state_keys", {"topic": "in", "partition": "3"}, 7),
        ("state_bytes", {"topic": "in", "partition": "3"}, 210),
        ("runtime_health_state", {}, 2),
    ],
)
def test_gauges_of_the_runtime_are_read_at_the_scrape(
    scene: Scene, name: str, labels: dict[str, str], value: float
) -> None:
    """Nothing is there before somebody is asked, and each scrape asks anew."""
    assert scene.value(name, **labels) is None
    scene.metrics.watch(RuntimeGauges)
    scene.metrics.watch(lambda: AT_SCRAPE)
    assert scene.value(name, **labels) == value


def test_worker_info_tells_who_runs(scene: Scene) -> None:
    """The info metric joins other series to a worker, its version and its group."""
    scene.metrics.describe_worker(worker_id="w-1", version="1.2", consumer_group="g")
    assert scene.value("worker_info", worker_id="w-1", version="1.2", consumer_group="g") == 1


def test_metrics_without_a_registry_bring_those_of_the_process_along() -> None:
    """CPU, memory and garbage collection are on the page, as with py-drakkar, and two runs don't share."""
    text = generate_latest(Metrics().registry).decode()
    assert "process_resident_memory_bytes" in text
    assert "python_gc_collections_total" in text
    assert Metrics().registry is not Metrics().registry


def test_a_bulk_histogram_counts_like_observing_one_by_one() -> None:
    """Its page equals that of prometheus_client's own histogram, the edges of buckets included."""
    values = [0.0, 0.005, 0.0050001, 0.1, 99.0]
    bounds = (0.005, 0.1, 1)
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    stock = Histogram("h", "Help", ["hook"], buckets=bounds, registry=theirs)
    bulk = BulkHistogram("h", "Help", ["hook"], bounds)
    ours.register(bulk)
    for value in values:
        bulk.observe(value, ("a",), count=3)
        for _ in range(3):
            stock.labels("a").observe(value)
    lines = [line for line in generate_latest(theirs).decode().splitlines() if "_created" not in line]
    got = generate_latest(ours).decode().splitlines()
    assert [line.rsplit(" ", 1)[0] for line in got] == [line.rsplit(" ", 1)[0] for line in lines]
    assert got[:-1] == lines[:-1]  # the sum is a float added up in another order


def test_a_plain_counter_counts_like_prometheus_s_own() -> None:
    """Its page equals that of prometheus_client's counter, but for the time each series was made."""
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    stock = Counter("c", "Help", ["type"], registry=theirs)
    plain = PlainCounter("c", "Help", ["type"])
    ours.register(plain)
    for label, by in (("a", 1), ("b", 2.5), ("a", 3), ("gone", 1)):
        stock.labels(label).inc(by)
        plain.inc((label,), by)
    stock.remove("gone")
    plain.remove(("gone",))
    plain.remove(("never there",))
    lines = [line for line in generate_latest(theirs).decode().splitlines() if "_created" not in line]
    assert generate_latest(ours).decode().splitlines() == lines


def test_tasks_that_completed_together_are_counted_each(scene: Scene) -> None:
    """A batch of a pool is as many observations as tasks."""
    scene.emit(TasksCompleted(durations_s=(0.002, 0.2, 0.7), queue_waits_s=(0.0, 0.0, 3.0)))
    assert scene.value("executor_tasks_total", status="completed") == 3
    assert scene.value("executor_duration_seconds_bucket", le="0.5") == 2
    assert scene.value("executor_duration_seconds_sum") == pytest.approx(0.902)
    assert scene.value("executor_queue_wait_seconds_bucket", le="1.0") == 2


def test_the_breaker_is_a_number(scene: Scene) -> None:
    """0 is well, 1 is not, 0.5 is about to be known."""
    for state, number in (("open", 1), ("half_open", 0.5), ("closed", 0)):
        scene.emit(ExecutorBreakerChanged(state, 5, "why"))
        assert scene.value("executor_breaker_state") == number


def test_the_recorders_state_is_a_number_and_absent_without_recorder(scene: Scene) -> None:
    """Otherwise a recorder that is off on purpose would look like one that failed."""
    assert scene.value("recorder_state") is None
    scene.emit(RecorderStarted("rec"))
    assert scene.value("recorder_state") == 2
    for state, number in (("without_details", 1), ("off", 0), ("full", 2)):
        scene.emit(RecorderChanged(state, "why"))
        assert scene.value("recorder_state") == number


def test_a_refused_recorder_has_a_state(scene: Scene) -> None:
    """It has never started."""
    scene.emit(RecorderChanged("off", "others may write to it"))
    assert scene.value("recorder_state") == 0


def test_children_are_counted_by_how_they_ended(scene: Scene) -> None:
    """Recycling is no failure."""
    scene.emit(ChildStarted(0, 1), ChildEnded(0, 1, "recycled", failed=False, requests=1, lived_s=1.0))
    scene.emit(ChildEnded(0, 1, "crash", failed=True, requests=1, lived_s=1.0), TaskFellBack("t", "why"))
    assert scene.value("executor_children_ended_total", outcome="failed") == 1
    assert scene.value("executor_children_ended_total", outcome="done") == 1
    assert scene.value("executor_tasks_fallen_back_total") == 1
