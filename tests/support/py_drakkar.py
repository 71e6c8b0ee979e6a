"""The metrics of py-drakkar that there are here too: what its dashboards know."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["METRICS_OF_PY_DRAKKAR", "NamedMetric"]

_TABLE = """
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


class NamedMetric(NamedTuple):
    """A metric as a scrape shows it; where py-drakkar has `partition`, `topic` is to be there as well."""

    name: str
    labels: set[str]
    buckets: set[float]


def _metric(row: str) -> NamedMetric:
    name, labels, *buckets = [*row.split(), "-"][: max(2, len(row.split()))]
    found = set(labels.replace("partition", "topic,partition").split(",")) - {"-"}
    return NamedMetric(f"drakkar_{name}", found, set(map(float, buckets)))


METRICS_OF_PY_DRAKKAR = [_metric(row) for row in _TABLE.split("\n")[1:-1]]
