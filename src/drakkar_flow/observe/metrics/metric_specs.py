"""Metric specs, one block per topic: type, help, labels and buckets of each metric.

Metrics of py-drakkar keep their names, labels and buckets, with two differences: those with the label `partition` also
have `topic`, because a flow may read several topics, and a histogram may have finer buckets below the former ones.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["EXECUTOR", "METRICS", "OUTLASTING", "PARTITION", "MetricSpec"]


class MetricSpec(NamedTuple):
    """Definition of a metric; its name in `METRICS` has neither the prefix nor a counter's `_total`."""

    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


EXECUTOR = "executor"
"""Last label of executor metrics; series of the default executor lack it."""
PARTITION = ("topic", "partition")
OUTLASTING = frozenset({"suppressed_zombie_deliveries"})
"""Metrics by partition whose series stay after the partition is revoked, because they count at that time."""
_SINK = ("sink_type", "sink_name")
_WAIT = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


def _counter(text: str, *labels: str) -> MetricSpec:
    return MetricSpec("counter", text, labels)


def _gauge(text: str, *labels: str) -> MetricSpec:
    return MetricSpec("gauge", text, labels)


def _histogram(text: str, buckets: tuple[float, ...], *labels: str) -> MetricSpec:
    return MetricSpec("histogram", text, labels, buckets)


_SOURCE = {
    "messages_consumed": _counter("Records read", *PARTITION),
    "messages_known_finished": _counter("Records that an earlier owner finished, not processed again", *PARTITION),
    "bytes_consumed": _counter("Bytes of key and value read", *PARTITION),
    "message_parse_failures": _counter("Records whose value could not be decoded", *PARTITION),
    "consumer_errors": _counter("Consumer errors that did not stop the flow"),
    "consumer_idle_seconds": _counter("Seconds without a read, a waiting or running task, while intake was open"),
    "rebalance_events": _counter("Changes of the assignment; type is assign, revoke or lost", "type"),
    "assigned_partitions": _gauge("Partitions assigned to this process"),
    "broker_up": _gauge("1 while the brokers answer the source, else 0"),
    "backpressure_active": _gauge("1 while intake is paused because too much is in flight"),
    "partition_queue_size": _gauge("Records read and not passed to the first step", *PARTITION),
    "buffered_records": _gauge("Records read and not passed to the first step, all partitions"),
    "total_queued": _gauge("Records not passed to the first step, plus waiting and running tasks"),
}

_PROGRESS = {
    "consumer_lag": _gauge("Records the brokers hold beyond what the group has finished", *PARTITION),
    "offset_lag": _gauge("Records read and not finished; not the lag, see consumer_lag", *PARTITION),
    "partition_finished_spans": _gauge("Ranges of records finished out of order; at most 550", *PARTITION),
    "partition_staleness_seconds": _gauge("Seconds since a record last finished while others wait, else 0", *PARTITION),
    "partition_oldest_in_flight_seconds": _gauge("Seconds since the oldest unfinished record was read", *PARTITION),
    "oldest_in_flight_seconds": _gauge("Seconds since the oldest unfinished record was read, all partitions"),
    "in_flight_records": _gauge("Records passed to the first step and not finished"),
    "guest_records": _gauge("Records that other processes of the cluster have read and this one works on"),
    "in_flight_bytes": _gauge("Bytes in flight: records, outputs of their tasks, payloads and dead letters"),
    "records_finished": _counter("Finished records, by worst status", "status"),
    "records_failed": _counter("Records that failed in a step, each once", "kind", "stage"),
    "state_keys": _gauge(
        "Final keys of keyed state, in memory; with state across partitions `topic` is empty, `partition` the shard",
        *PARTITION,
    ),
    "state_bytes": _gauge("Bytes of final keys and values of keyed state", *PARTITION),
    "state_restore_seconds": _histogram(
        "Seconds until the state of an assigned partition was read from the state topic",
        (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    ),
    "state_restored_keys": _counter("Keys of assigned partitions read from the state topic", *PARTITION),
    "record_latency_seconds": _histogram(
        "Seconds from reading a record to its end; records finished together count with the oldest",
        (0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600),
    ),
    "offsets_committed": _counter("Commits of a partition's offset (commits, not offsets)", *PARTITION),
    "commit_failures": _counter("Refused commits; they are tried again"),
}

_TASKS = {
    "executor_tasks": _counter("Tasks; status is started, completed, failed or cancelled", "status", EXECUTOR),
    "executor_timeouts": _counter("Tasks killed at their timeout", EXECUTOR),
    "task_retries": _counter("Failed tasks that were run again"),
    "tasks_precomputed": _counter("Tasks with a precomputed result"),
    "duplicate_tasks": _counter("Tasks whose id was already pending in their partition"),
    "executor_priority_fn_errors": _counter("Tasks whose priority function failed"),
    "executor_children_started": _counter("Long-lived children started", EXECUTOR),
    "executor_children_ended": _counter("Long-lived children ended; outcome is failed or done", "outcome", EXECUTOR),
    "executor_tasks_fallen_back": _counter("Tasks run one-shot because no child could take them", EXECUTOR),
    "executor_breaker_state": _gauge(
        "0 while the breaker is closed, 1 while it is open, 0.5 while one task probes", EXECUTOR
    ),
    "executor_output_truncated": _counter("Tasks whose output was cut at its limit", "stream", EXECUTOR),
    "host_shortage": _gauge(
        "1 while the host lacks a resource that a part, of any executor, needs to start programs or threads",
        "part",
        "lacks",
    ),
    "executor_idle_slot_seconds": _counter("Seconds a slot was free while records waited, summed over the slots"),
    "executor_pool_active": _gauge("Running programs", EXECUTOR),
    "executor_pool_max": _gauge("Maximum of running programs", EXECUTOR),
    "executor_pool_waiting": _gauge("Tasks waiting for a slot", EXECUTOR),
    "executor_duration_seconds": _histogram(
        "Seconds a program ran", (0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300), EXECUTOR
    ),
    "executor_queue_wait_seconds": _histogram("Seconds a task waited for a slot", (*_WAIT, 30, 60), EXECUTOR),
    "executor_spawn_seconds": _histogram("Seconds to start a program", _WAIT, EXECUTOR),
    "batch_duration_seconds": _histogram(
        "Seconds from arranging a window to the end of its last task",
        (0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600),
    ),
}

_HOOKS = {
    "handler_hook_errors": _counter("Hook calls that raised", "hook"),
    "periodic_task_runs": _counter("Runs of periodic functions; status is ok or error", "name", "status"),
    "periodic_task_duration_seconds": _histogram(
        "Seconds a periodic function ran", (0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60), "name"
    ),
    "offload_duration_seconds": _histogram(
        "Seconds a call ran on a thread of the pool", (0.01, 0.1, 0.5, 1, 5, 30, 120), "hook"
    ),
    "offload_running": _gauge("Running offloaded calls"),
    "offload_queued": _gauge("Offloaded calls waiting for a thread"),
    "recorder_annotations": _counter("Annotations made by the handler"),
    "recorder_annotations_dropped": _counter("Dropped annotations; reason is too_large or not_json", "reason"),
    "handler_duration_seconds": _histogram(
        "Seconds a hook took; calls made in one batch count with their mean",
        (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30),
        "hook",
    ),
}

_SINKS = {
    "sink_payloads_delivered": _counter("Payloads written", *_SINK),
    "sink_deliver_errors": _counter("Batches a sink failed to write, retried or not", *_SINK),
    "sink_delivery_retries": _counter("Batches written again after a failure", *_SINK),
    "sink_payloads_failed": _counter("Payloads a sink gave up", *_SINK),
    "sink_deliveries_skipped": _counter("Payloads skipped by a rule or hook", *_SINK),
    "suppressed_zombie_deliveries": _counter(
        "Payloads not written because their partition was revoked or lost", *PARTITION
    ),
    "sink_deliver_duration_seconds": _histogram(
        "Seconds a sink took to write a batch", (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5), *_SINK
    ),
    "sink_circuit_open": _gauge("1 while the circuit breaker of a sink is open, 0.5 while one batch probes", *_SINK),
    "sink_circuit_trips": _counter("Times a sink's circuit breaker opened, also after a failed probe", *_SINK),
    "sink_dlq_messages": _counter("Dead letters acknowledged by the broker"),
    "dlq_send_failures": _counter("Dead letters that could not be written, at each attempt"),
    "dlq_dropped_payloads": _counter("Dropped dead letters (dlq.on_failure: drop)", *PARTITION),
}

_LIFE = {
    "drain_timeout_hit": _counter("Drains that ended with work unfinished"),
    "inflight_at_stop": _gauge("Records unfinished when the last drain ended"),
    "uncommitted_offsets_at_stop": _gauge("Records finished or not, but not committed, when the last drain ended"),
    "listener_errors": _counter("Events at which a listener of the program raised", "listener"),
    "listener_events_dropped": _counter("Events that a listener of the program was too slow for", "listener"),
    "recorder_dropped_events": _counter(
        "Events and rows that the recorder dropped, by kind: events, or the table of a row", "kind"
    ),
    "recorder_state": _gauge(
        "2 if everything is recorded, 1 without details, 0 if nothing is; absent without recorder"
    ),
    "log_lines_lost": _counter("Log lines that could not be written"),
    "runtime_health_state": _gauge("0 healthy, 1 the event loop is late, 2 a partition, the loop or the engine stalls"),
    "runtime_stalls": _counter("Detected stalls by what: partition, loop or engine", "what"),
    "loop_lag_seconds": _histogram(
        "Seconds the event loop took to answer, asked twice a second", (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
    ),
}

_CACHE = {
    "cache_hits": _counter("Values that `get` and cached tasks found, in memory or in the file (db)", "source"),
    "cache_misses": _counter("Values that `get` did not find"),
    "cache_writes": _counter("Values set in the cache", "scope"),
    "cache_deletes": _counter("Keys deleted from the cache"),
    "cache_evictions": _counter("Entries that left memory for others; those on disk can still be read"),
    "cache_dropped_entries": _counter(
        "Entries not kept, by kind: too_large, queue_full, unreadable, unread or ahead", "kind"
    ),
    "cache_flush_entries": _counter("Changes written to the file; op is set or delete", "op"),
    "cache_flush_failures": _counter("Writes of the file that failed; the changes stay queued"),
    "cache_cleanup_removed": _counter("Entries removed from the file: expired, or the oldest of a full one"),
    "cache_entries_in_memory": _gauge("Cache entries in memory"),
    "cache_bytes_in_memory": _gauge("Bytes of cache entries in memory"),
    "cache_entries_in_db": _gauge("Cache entries in the file"),
    "cache_bytes_in_db": _gauge("Bytes that cache entries use in the file"),
    "cache_sync_entries_fetched": _counter("Cache entries read from another worker", "peer"),
    "cache_sync_entries_upserted": _counter("Cache entries of another worker that were newer, and taken", "peer"),
    "cache_sync_errors": _counter("Exchanges of cache entries that failed", "peer"),
    "cache_peer_sync_timeouts": _counter("Exchanges of cache entries that did not end in their time"),
    "cache_stored": _gauge("1 while the cache is stored in its file, 0 while it is in memory alone"),
}

METRICS: dict[str, MetricSpec] = {**_SOURCE, **_PROGRESS, **_TASKS, **_HOOKS, **_SINKS, **_CACHE, **_LIFE}
"""All metrics by name, except `state` and `worker`, which are an Enum and an Info."""
