"""The metrics as dashboards know them: renaming one, or its labels or buckets, breaks somebody's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Metric

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.catalogue import METRICS
from drakkar_flow.observe.collectors import RuntimeGauges
from drakkar_flow.observe.metrics import Metrics

LANE = ("in", 3)
PAGE = Path(__file__).resolve().parents[3] / "docs" / "observability.md"
PY_DRAKKAR = """
    messages_consumed_total partition
    executor_tasks_total status
    executor_duration_seconds - .1 .5 1 2 5 10 30 60 120 300
    executor_pool_active
    executor_timeouts_total
    task_retries_total
    batch_duration_seconds - .5 1 2 5 10 30 60 120 300 600
    partition_queue_size partition
    offset_lag partition
    backpressure_active
    total_queued
    assigned_partitions
    executor_idle_slot_seconds_total
    consumer_idle_seconds_total
    consumer_errors_total
    offsets_committed_total partition
    rebalance_events_total type
    sink_deliver_duration_seconds sink_type,sink_name .001 .005 .01 .05 .1 .5 1 5
    sink_deliver_errors_total sink_type,sink_name
    sink_payloads_delivered_total sink_type,sink_name
    sink_delivery_retries_total sink_type,sink_name
    sink_deliveries_skipped_total sink_type,sink_name
    sink_dlq_messages_total
    dlq_send_failures_total
    handler_duration_seconds hook .001 .005 .01 .05 .1 .5 1 5 30
    tasks_precomputed_total
    executor_priority_fn_errors_total
    periodic_task_runs_total name,status
    periodic_task_duration_seconds name .001 .01 .1 .5 1 5 10 30 60
    offload_duration_seconds hook .01 120
    offload_running
    offload_queued
    recorder_annotations_total
    recorder_annotations_dropped_total reason
    handler_hook_errors_total hook
    message_parse_failures_total partition
    dlq_dropped_payloads_total partition
    executor_output_truncated_total stream
    drain_timeout_hit_total
    executor_pool_max
    uncommitted_offsets_at_stop
    inflight_at_stop
    executor_spawn_seconds - .001 10
    executor_queue_wait_seconds - .001 60
    loop_lag_seconds - .001 10
    runtime_health_state
    suppressed_zombie_deliveries_total partition
    sink_circuit_open sink_type,sink_name
    sink_circuit_trips_total sink_type,sink_name
    worker_info worker_id,version,consumer_group
"""


@pytest.fixture
def served(one_of_each) -> dict[str, Metric]:
    """Everything a worker serves after one event of each type, by name."""
    registry = CollectorRegistry()
    metrics, bus = Metrics(registry), Bus()
    metrics.listen(bus)
    metrics.describe_worker(worker_id="w", version="1", consumer_group="g")
    metrics.watch(lambda: RuntimeGauges(queued={LANE: 1}, pending={LANE: 1}, lag={LANE: 1}, oldest_s={LANE: 1.0}))
    for event in one_of_each:
        bus.emit(event)
    return {_name(family): family for family in registry.collect()}


def _name(family: Metric) -> str:
    return family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")


def _buckets(family: Metric) -> list[float]:
    bounds = {float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels}
    return sorted(bounds - {float("inf")})


def _labels(family: Metric) -> set[str]:
    return {label for sample in family.samples for label in sample.labels} - {"le"}


@pytest.mark.parametrize("line", PY_DRAKKAR.split("\n")[1:-1], ids=lambda line: line.split()[0])
def test_what_py_drakkar_has_is_here_by_its_name_labels_and_buckets(served: dict[str, Metric], line: str) -> None:
    """Where it has `partition` there is `topic` beside it, and a histogram may be finer: nothing else differs."""
    name, labels, *buckets = [*line.split(), "-"][: max(2, len(line.split()))]
    family = served[f"drakkar_{name}"]
    assert _labels(family) - {"topic"} == set(labels.split(",")) - {"-"}
    assert ("topic" in _labels(family)) == (labels == "partition")
    assert set(map(float, buckets)) <= set(_buckets(family))


def _rows(served: dict[str, Metric]) -> Iterator[str]:
    for family in served.values():
        key = family.name.removeprefix("drakkar_")
        if key in METRICS:
            spec = METRICS[key]
            assert (family.type, _labels(family) - set(spec.labels)) == (spec.type, set()), key
            labels = ", ".join(spec.labels)
            buckets = "; buckets " + " ".join(map(str, spec.buckets)) if spec.buckets else ""
            yield f"| `{_name(family)}` | {spec.type} | {labels} | {spec.help}{buckets} |"
        else:
            labels = ", ".join(sorted(_labels(family)))
            yield f"| `{_name(family)}` | {family.type} | {labels} | {family.documentation} |"


def test_the_page_lists_every_metric_with_type_labels_and_buckets(served: dict[str, Metric]) -> None:
    """The table of docs/observability.md is what a worker serves, no more and no less."""
    page = PAGE.read_text().partition("## Log lines")[0]
    on_page = [line for line in page.splitlines() if line.startswith("| `drakkar_")]
    assert sorted(on_page) == sorted(_rows(served))
    assert len(on_page) == len(METRICS) + 2
