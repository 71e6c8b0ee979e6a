"""Dashboard of one worker: its partitions, queues, process and recorder."""

from __future__ import annotations

from scripts.monitoring.grafana import Dashboard, Panel, Query, Row, Variable, of, quantile, rate
from scripts.monitoring.parts import HOOKS, PROGRAMS, SINKS, STATE
from scripts.monitoring.stats import stat

__all__ = ["WORKER"]

_HEAD = Row(
    "Is it well?",
    (
        stat(
            "State",
            "Healthy: running. Longer than minutes in starting: a server does not answer. `/readyz` has the reasons.",
            "none",
            f"max by (drakkar_state) ({of('state')}) == 1",
            legend="{{drakkar_state}}",
            only_name=True,
        ),
        stat(
            "Health",
            "Healthy: healthy. Late: the event loop answers late. Stalled: a partition, the loop or the engine makes "
            "no progress; `/readyz` and the log name it.",
            "none",
            f"max({of('runtime_health_state')})",
            texts=((0, "healthy", "green"), (1, "late", "orange"), (2, "stalled", "red")),
        ),
        stat(
            "Up for",
            "Time since the process started. Healthy: since the last deployment.",
            "s",
            f"time() - max({of('process_start_time_seconds')})",
        ),
        stat(
            "Version",
            "Version of drakkar-flow. Healthy: the same for all workers, except during an update.",
            "none",
            f"max by (version) ({of('worker_info')})",
            legend="{{version}}",
            only_name=True,
        ),
        stat(
            "Partitions",
            "Assigned partitions. Healthy: above 0, unless there are more workers than partitions.",
            "none",
            f"sum({of('assigned_partitions')})",
        ),
        stat(
            "Finished",
            "Records finished per second. Healthy: as many as arrive on its partitions.",
            "ops",
            f"sum({rate('records_finished_total')})",
        ),
    ),
)

_PARTITIONS = Row(
    "Partitions",
    (
        Panel(
            "Partitions",
            "Greatest lag first. Stale: seconds without a finished record while others wait. Healthy: lag falls, stale "
            "is near 0, ranges stay below 550.",
            "none",
            (
                Query(f"sum by (topic, partition) ({of('consumer_lag')})"),
                Query(f"sum by (topic, partition) ({of('offset_lag')})"),
                Query(f"sum by (topic, partition) ({of('partition_queue_size')})"),
                Query(f"max by (topic, partition) ({of('partition_oldest_in_flight_seconds')})"),
                Query(f"max by (topic, partition) ({of('partition_staleness_seconds')})"),
                Query(f"max by (topic, partition) ({of('partition_finished_spans')})"),
            ),
            kind="table",
            width=24,
            columns=("Lag", "Read, unfinished", "Waiting for the first step", "Oldest, s", "Stale, s", "Ranges"),
        ),
        Panel(
            "Records read",
            "Per second. Healthy: as fast as they finish.",
            "ops",
            (Query(f"sum by (topic) ({rate('messages_consumed_total')})", "{{topic}}"),),
        ),
        Panel(
            "Bytes read",
            "Bytes of keys and values per second. Healthy: as the topic's producers write.",
            "Bps",
            (Query(f"sum by (topic) ({rate('bytes_consumed_total')})", "{{topic}}"),),
        ),
        Panel(
            "Latency",
            "Seconds from reading a record to its end. Healthy: about the time of its tasks and deliveries.",
            "s",
            tuple(Query(quantile(q, "record_latency_seconds"), f"p{round(q * 100)}") for q in (0.5, 0.95, 0.99)),
        ),
    ),
)

_FLIGHT = Row(
    "Queues and bounds",
    (
        Panel(
            "Records in the worker",
            "Records that wait for the first step, that are in flight, and those of other processes of the cluster. "
            "Healthy: below runtime.max_in_flight_records; steady.",
            "short",
            (
                Query(f"sum({of('buffered_records')})", "buffered"),
                Query(f"sum({of('in_flight_records')})", "in flight"),
                Query(f"sum({of('guest_records')})", "guests"),
                Query(f"sum({of('total_queued')})", "with tasks"),
            ),
        ),
        Panel(
            "Bytes in flight",
            "Records, outputs of their tasks, payloads and dead letters. Healthy: below runtime.max_in_flight_mib; at "
            "the bound a sink is too slow.",
            "bytes",
            (Query(f"sum({of('in_flight_bytes')})", "in flight"),),
        ),
        Panel(
            "Intake and brokers",
            "1 while the brokers answer, 1 while intake is paused; consumer errors per second. Healthy: brokers 1, the "
            "others 0.",
            "short",
            (
                Query(f"min({of('broker_up')})", "brokers"),
                Query(f"max({of('backpressure_active')})", "intake paused"),
                Query(f"sum({rate('consumer_errors_total')})", "consumer errors/s"),
            ),
        ),
    ),
)

_PROCESS = Row(
    "Process",
    (
        Panel(
            "Memory",
            "Without programs. Healthy: flat, below the limit of the container.",
            "bytes",
            (Query(f"sum({of('process_resident_memory_bytes')})", "resident"),),
        ),
        Panel(
            "CPU",
            "Cores, without programs. Healthy: below 1, the limit of one Python process.",
            "short",
            (Query(f"sum({rate('process_cpu_seconds_total')})", "cores"),),
        ),
        Panel(
            "Descriptors",
            "Open ones and the limit. Healthy: below half of the limit.",
            "short",
            (
                Query(f"sum({of('process_open_fds')})", "open"),
                Query(f"sum({of('process_max_fds')})", "limit"),
            ),
        ),
        Panel(
            "Event loop",
            "Seconds the event loop took to answer. Healthy: p99 below 0.1. Above: a hook blocks the loop.",
            "s",
            tuple(Query(quantile(q, "loop_lag_seconds"), f"p{round(q * 100)}") for q in (0.5, 0.99)),
        ),
        Panel(
            "Stalls",
            "Detected in each interval. Healthy: 0.",
            "short",
            (Query(f"sum by (what) (increase({of('runtime_stalls_total')}[$__rate_interval]))", "{{what}}"),),
        ),
        Panel(
            "Recorder",
            "State: 2 records everything, 1 without details, 0 nothing; no value without recorder. Dropped rows and "
            "annotations per second. Healthy: 2, none dropped.",
            "short",
            (
                Query(f"max({of('recorder_state')})", "state"),
                Query(f"sum by (kind) ({rate('recorder_dropped_events_total')})", "dropped {{kind}}/s"),
                Query(f"sum({rate('recorder_annotations_total')})", "annotations/s"),
                Query(f"sum({rate('log_lines_lost_total')})", "log lines lost/s"),
            ),
        ),
        Panel(
            "At the last stop",
            "Records unfinished, and not committed, when the last drain ended; they are processed again. Healthy: 0.",
            "short",
            (
                Query(f"max({of('inflight_at_stop')})", "unfinished"),
                Query(f"max({of('uncommitted_offsets_at_stop')})", "not committed"),
            ),
        ),
    ),
)

_CACHE = Row(
    "Cache",
    (
        Panel(
            "Hits and misses",
            "Per second, and where values were found. Healthy: more hits than misses; else keys differ too "
            "much, or the time to live is short.",
            "short",
            (
                Query(f"sum by (source) ({rate('cache_hits_total')})", "hit {{source}}"),
                Query(f"sum({rate('cache_misses_total')})", "miss"),
            ),
        ),
        Panel(
            "Changes",
            "Per second: set, deleted, written to the file, removed from it, and left memory. Healthy: written follows "
            "set and deleted.",
            "short",
            (
                Query(f"sum by (scope) ({rate('cache_writes_total')})", "set {{scope}}"),
                Query(f"sum({rate('cache_deletes_total')})", "deleted"),
                Query(f"sum by (op) ({rate('cache_flush_entries_total')})", "written {{op}}"),
                Query(f"sum({rate('cache_cleanup_removed_total')})", "removed"),
                Query(f"sum({rate('cache_evictions_total')})", "left memory"),
            ),
        ),
        Panel(
            "Size",
            "Bytes in memory and in the file. Healthy: below cache.max_memory_mib and cache.max_disk_mib.",
            "bytes",
            (
                Query(f"sum({of('cache_bytes_in_memory')})", "memory"),
                Query(f"sum({of('cache_bytes_in_db')})", "file"),
            ),
        ),
        Panel(
            "Entries",
            "In memory and in the file. Healthy: below cache.max_memory_entries.",
            "short",
            (
                Query(f"sum({of('cache_entries_in_memory')})", "memory"),
                Query(f"sum({of('cache_entries_in_db')})", "file"),
            ),
        ),
        Panel(
            "Trouble",
            "1 while the cache is stored in its file; per second: entries not kept, failed writes, failed exchanges. "
            "Healthy: 1, the others 0.",
            "short",
            (
                Query(f"min({of('cache_stored')})", "stored"),
                Query(f"sum by (kind) ({rate('cache_dropped_entries_total')})", "not kept {{kind}}/s"),
                Query(f"sum({rate('cache_flush_failures_total')})", "failed writes/s"),
                Query(f"sum by (peer) ({rate('cache_sync_errors_total')})", "failed exchange {{peer}}/s"),
                Query(f"sum({rate('cache_peer_sync_timeouts_total')})", "late exchanges/s"),
            ),
        ),
        Panel(
            "Entries of other workers",
            "Per second: read, and taken because they are newer. Healthy: follows what the others set.",
            "short",
            (
                Query(f"sum by (peer) ({rate('cache_sync_entries_fetched_total')})", "read {{peer}}"),
                Query(f"sum by (peer) ({rate('cache_sync_entries_upserted_total')})", "taken {{peer}}"),
            ),
        ),
    ),
)

WORKER = Dashboard(
    uid="drakkar-flow-worker",
    title="drakkar-flow: worker",
    description="One worker: its partitions, queues, process and recorder.",
    variables=(
        Variable("job", "Job", "drakkar_worker_info, job"),
        Variable("group", "Consumer group", 'drakkar_worker_info{job=~"$job"}, consumer_group'),
        Variable("worker", "Worker", 'drakkar_worker_info{job=~"$job", consumer_group=~"$group"}, worker_id'),
        Variable(
            "instance",
            "Target",
            'drakkar_worker_info{job=~"$job", consumer_group=~"$group", worker_id=~"$worker"}, instance',
            several=True,
            hidden=True,
        ),
    ),
    rows=(_HEAD, _PARTITIONS, _FLIGHT, _PROCESS, SINKS, PROGRAMS, HOOKS, STATE, _CACHE),
)
