"""Dashboard of a flow, over all its workers: is it behind, why, and which part fails."""

from __future__ import annotations

from scripts.monitoring.grafana import Dashboard, Panel, Query, Row, Variable, by_worker, of, quantile, rate
from scripts.monitoring.parts import HOOKS, PROGRAMS, SINKS, STATE
from scripts.monitoring.stats import stat

__all__ = ["OVERVIEW"]

_IS_DEAD = 'status="dead"'
_IS_RUNNING = 'drakkar_state="running"'
_LAG = f"sum(max by (topic, partition) ({of('consumer_lag')}))"
_FINISHED = f"sum({rate('records_finished_total')})"
_SHRINKING = f"(-sum(deriv({of('consumer_lag')}[15m])) > 0)"
_SECONDS_OF_LAG = f"({_LAG} > 0) / {_FINISHED} or {_LAG}"
_DEAD = f"sum({rate('records_finished_total', _IS_DEAD)}) / ({_FINISHED} > 0)"


_VERDICT = Row(
    "Is it behind?",
    (
        stat(
            "Lag",
            "Records that the group has not finished, of all partitions. Healthy: near 0, or falling after a peak.",
            "short",
            _LAG,
        ),
        stat(
            "Lag in seconds",
            "Time that the lag takes at the present rate. Healthy: below the delay that users of the results accept. "
            "Infinite: nothing finishes.",
            "s",
            _SECONDS_OF_LAG,
            steps=((None, "green"), (300, "orange"), (900, "red")),
        ),
        stat(
            "Time to catch up",
            "Lag divided by the speed at which it shrinks. Healthy: minutes. No value: there is no lag, or it does not "
            "shrink; then see the lag's curve.",
            "s",
            f"{_LAG} / {_SHRINKING}",
        ),
        stat(
            "Finished",
            "Records finished per second: delivered, skipped or dead. Healthy: as many as arrive.",
            "ops",
            _FINISHED,
        ),
        stat(
            "Dead letters",
            "Share of the finished records that ended as dead letters. Healthy: 0; no value while none finishes.",
            "percentunit",
            _DEAD,
            steps=((None, "green"), (0.001, "orange"), (0.01, "red")),
        ),
        stat(
            "Oldest in flight",
            "Age of the oldest unfinished record since it was read. Healthy: below the longest task and its retries.",
            "s",
            f"max({of('oldest_in_flight_seconds')})",
            steps=((None, "green"), (300, "orange"), (1800, "red")),
        ),
        stat(
            "Workers running",
            "Workers of the group in the state running. Healthy: as many as deployed.",
            "none",
            f"sum({of('state', _IS_RUNNING)})",
        ),
        stat(
            "Health",
            "The worst worker. Healthy: healthy. Late: the event loop answers late. Stalled: a partition, the loop or "
            "the engine makes no progress.",
            "none",
            f"max({of('runtime_health_state')})",
            texts=((0, "healthy", "green"), (1, "late", "orange"), (2, "stalled", "red")),
        ),
        stat(
            "Brokers",
            "As the worst worker sees them. Healthy: up.",
            "none",
            f"min({of('broker_up')})",
            texts=((0, "down", "red"), (1, "up", "green")),
        ),
        stat(
            "Open circuits",
            "Sinks whose circuit breaker is open or probes, summed over the workers. Healthy: 0.",
            "none",
            f"sum(ceil({of('sink_circuit_open')})) or vector(0)",
            steps=((None, "green"), (1, "red")),
        ),
        stat(
            "Executors that can't start",
            "Executors whose breaker is open or probes, summed over the workers. Healthy: 0.",
            "none",
            f"sum(ceil({of('executor_breaker_state')}))",
            steps=((None, "green"), (1, "red")),
        ),
        stat(
            "Refused commits",
            "Refused commits per second; they are tried again. Healthy: 0.",
            "ops",
            f"sum({rate('commit_failures_total')})",
            steps=((None, "green"), (0.001, "orange"), (0.1, "red")),
        ),
    ),
)

_RATES = Row(
    "Rates, lag and latency",
    (
        Panel(
            "Records in and out",
            "Read and finished records per second. Healthy: both curves lie on each other.",
            "ops",
            (
                Query(f"sum({rate('messages_consumed_total')})", "read"),
                Query(_FINISHED, "finished"),
                Query(f"sum({rate('messages_known_finished_total')})", "known to be finished"),
            ),
        ),
        Panel(
            "Lag by topic",
            "Records that the group has not finished. Healthy: returns to 0 after peaks.",
            "short",
            (Query(f"sum by (topic) (max by (topic, partition) ({of('consumer_lag')}))", "{{topic}}"),),
        ),
        Panel(
            "Lag in seconds",
            "Time that the lag takes at the present rate, and at the speed at which it shrinks. Healthy: flat and low.",
            "s",
            (Query(_SECONDS_OF_LAG, "lag"), Query(f"{_LAG} / {_SHRINKING}", "time to catch up")),
        ),
        Panel(
            "Partitions with the greatest lag",
            "Healthy: close together. One far above the others has a hot key or a stuck record.",
            "short",
            (
                Query(
                    f"topk(10, max by (topic, partition) ({of('consumer_lag')}))",
                    "{{topic}} {{partition}}",
                ),
            ),
        ),
        Panel(
            "Latency",
            "Seconds from reading a record to its end. Healthy: about the time of its tasks and deliveries.",
            "s",
            tuple(Query(quantile(q, "record_latency_seconds"), f"p{round(q * 100)}") for q in (0.5, 0.95, 0.99)),
        ),
        Panel(
            "In flight by worker",
            "Records passed to the first step and not finished. Healthy: below runtime.max_in_flight_records.",
            "short",
            (Query(by_worker(f"sum by (job, instance) ({of('in_flight_records')})"), "{{worker_id}}"),),
        ),
    ),
)

_BOTTLENECK = Row(
    "Why: the bottleneck",
    (
        Panel(
            "Busy slots",
            "Share of the executors' slots that run a program. Healthy: below 100 %. At 100 % with waiting tasks, "
            "programs are the bottleneck: more slots, cores or workers.",
            "percentunit",
            (
                Query(
                    f"sum by (executor) ({of('executor_pool_active')}) / sum by (executor) ({of('executor_pool_max')})",
                    "executor {{executor}}",
                ),
            ),
            at_most=1,
        ),
        Panel(
            "Tasks that wait for a slot",
            "Healthy: near 0, or steady while the lag falls.",
            "short",
            (Query(f"sum by (executor) ({of('executor_pool_waiting')})", "executor {{executor}}"),),
        ),
        Panel(
            "Seconds per second",
            "Time spent in each part, summed over calls that run at once: 2 means two at any moment. The tallest part "
            "is the bottleneck. Healthy: programs are the tallest.",
            "short",
            (
                Query(f"sum({rate('executor_duration_seconds_sum')})", "programs"),
                Query(f"sum({rate('executor_queue_wait_seconds_sum')})", "wait for a slot"),
                Query(f"sum by (hook) ({rate('handler_duration_seconds_sum')})", "hook {{hook}}"),
                Query(
                    f"sum by (sink_type, sink_name) ({rate('sink_deliver_duration_seconds_sum')})",
                    "sink {{sink_type}}:{{sink_name}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Idle slots while records waited",
            "Slots that were free although records waited, at any moment. Healthy: near 0. Above: arrange, a hook or "
            "the event loop is too slow to fill the slots.",
            "short",
            (Query(f"sum({rate('executor_idle_slot_seconds_total')})", "idle slots"),),
        ),
        Panel(
            "Intake paused",
            "Workers that read nothing because too much is in flight. Healthy: 0, or short. Permanent: a step after "
            "the intake is the bottleneck.",
            "short",
            (Query(f"sum({of('backpressure_active')})", "paused workers"),),
        ),
        Panel(
            "Nothing to do",
            "Share of the time in which workers waited for records. Healthy: above 0. At 0 with a growing lag, add "
            "workers.",
            "percentunit",
            (Query(f"avg({rate('consumer_idle_seconds_total')})", "idle"),),
            at_most=1,
        ),
    ),
)

_FAILURES = Row(
    "Failures and dead letters",
    (
        Panel(
            "Failed records by kind and step",
            "Records that failed in a step, per second. Healthy: 0. The log line records_failed has the cause.",
            "ops",
            (Query(f"sum by (kind, stage) ({rate('records_failed_total')})", "{{kind}} in {{stage}}"),),
        ),
        Panel(
            "Finished records by status",
            "Records per second by their worst status. Healthy: done, and skipped where a rule skips.",
            "ops",
            (Query(f"sum by (status) ({rate('records_finished_total')})", "{{status}}"),),
            stacked=True,
        ),
        Panel(
            "Dead letters",
            "Messages per second to the dead letter topic. Healthy: 0 written, 0 failed attempts, 0 dropped.",
            "ops",
            (
                Query(f"sum({rate('sink_dlq_messages_total')})", "written"),
                Query(f"sum({rate('dlq_send_failures_total')})", "failed attempts"),
                Query(f"sum({rate('dlq_dropped_payloads_total')})", "dropped"),
            ),
        ),
    ),
)

_GROUP = Row(
    "Commits and partitions",
    (
        Panel(
            "Commits",
            "Commits of partitions and refused commits per second. Healthy: above 0 while records finish, 0 refused.",
            "ops",
            (
                Query(f"sum({rate('offsets_committed_total')})", "committed"),
                Query(f"sum({rate('commit_failures_total')})", "refused"),
            ),
        ),
        Panel(
            "Rebalances",
            "Changes of the assignment by type in each interval. Healthy: only when workers start or stop; lost never.",
            "short",
            (
                Query(
                    f"sum by (type) (increase({of('rebalance_events_total')}[$__rate_interval]))",
                    "{{type}}",
                ),
            ),
        ),
        Panel(
            "Partitions by worker",
            "Healthy: about equal; 0 only with more workers than partitions.",
            "short",
            (Query(by_worker(f"sum by (job, instance) ({of('assigned_partitions')})"), "{{worker_id}}"),),
            stacked=True,
        ),
        Panel(
            "Records finished out of order",
            "Ranges beyond the first unfinished record, the largest of all partitions. Healthy: below 550, where a "
            "partition's intake pauses. Growing: an old record is stuck.",
            "short",
            (
                Query(
                    f"topk(5, max by (topic, partition) ({of('partition_finished_spans')}))",
                    "{{topic}} {{partition}}",
                ),
            ),
        ),
        Panel(
            "Oldest record in flight",
            "Age of the oldest unfinished record of a partition; its offset can't be committed. Healthy: below the "
            "longest task and its retries.",
            "s",
            (
                Query(
                    f"topk(5, max by (topic, partition) ({of('partition_oldest_in_flight_seconds')}))",
                    "{{topic}} {{partition}}",
                ),
            ),
        ),
        Panel(
            "Deliveries suppressed, drains cut short",
            "Payloads of revoked partitions that were not written, and drains that ended with work unfinished, in each "
            "interval. Their records are processed again. Healthy: 0.",
            "short",
            (
                Query(f"sum(increase({of('suppressed_zombie_deliveries_total')}[$__rate_interval]))", "suppressed"),
                Query(f"sum(increase({of('drain_timeout_hit_total')}[$__rate_interval]))", "drains"),
            ),
        ),
    ),
    collapsed=True,
)

_RUNTIME = Row(
    "Memory, event loop and stalls",
    (
        Panel(
            "Memory by worker",
            "Resident memory without programs. Healthy: flat, below the limit of the container.",
            "bytes",
            (Query(by_worker(f"sum by (job, instance) ({of('process_resident_memory_bytes')})"), "{{worker_id}}"),),
        ),
        Panel(
            "CPU by worker",
            "Cores that a worker uses, without programs. Healthy: below 1, the limit of one Python process.",
            "short",
            (Query(by_worker(f"sum by (job, instance) ({rate('process_cpu_seconds_total')})"), "{{worker_id}}"),),
        ),
        Panel(
            "Event loop",
            "Seconds the event loop took to answer. Healthy: p99 below 0.1. Above: a hook blocks the loop.",
            "s",
            tuple(Query(quantile(q, "loop_lag_seconds"), f"p{round(q * 100)}") for q in (0.5, 0.99)),
        ),
        Panel(
            "Health by worker",
            "0 healthy, 1 the event loop is late, 2 stalled. Healthy: 0.",
            "none",
            (Query(by_worker(f"max by (job, instance) ({of('runtime_health_state')})"), "{{worker_id}}"),),
            at_most=2,
        ),
        Panel(
            "Stalls",
            "Stalls detected in each interval: partition, loop or engine. Healthy: 0.",
            "short",
            (Query(f"sum by (what) (increase({of('runtime_stalls_total')}[$__rate_interval]))", "{{what}}"),),
        ),
        Panel(
            "Observation itself",
            "What was dropped or lost so that the flow could go on, per second. Healthy: 0.",
            "ops",
            (
                Query(f"sum({rate('log_lines_lost_total')})", "log lines"),
                Query(f"sum by (kind) ({rate('recorder_dropped_events_total')})", "recorder: {{kind}}"),
                Query(f"sum by (listener) ({rate('listener_events_dropped_total')})", "dropped for {{listener}}"),
                Query(f"sum by (listener) ({rate('listener_errors_total')})", "errors of {{listener}}"),
            ),
        ),
    ),
    collapsed=True,
)

OVERVIEW = Dashboard(
    uid="drakkar-flow",
    title="drakkar-flow: flow",
    description="All workers of one consumer group: is it behind, why, and which part fails.",
    variables=(
        Variable("job", "Job", "drakkar_worker_info, job"),
        Variable("group", "Consumer group", 'drakkar_worker_info{job=~"$job"}, consumer_group'),
        Variable(
            "worker",
            "Worker",
            'drakkar_worker_info{job=~"$job", consumer_group=~"$group"}, worker_id',
            several=True,
        ),
        Variable(
            "instance",
            "Target",
            'drakkar_worker_info{job=~"$job", consumer_group=~"$group", worker_id=~"$worker"}, instance',
            several=True,
            hidden=True,
        ),
    ),
    rows=(_VERDICT, _RATES, _BOTTLENECK, _FAILURES, SINKS, PROGRAMS, HOOKS, _GROUP, STATE, _RUNTIME),
)
