"""Rows that both dashboards have: sinks, programs, hooks, state."""

from __future__ import annotations

from scripts.monitoring.grafana import Panel, Query, Row, of, quantile, rate

__all__ = ["HOOKS", "PROGRAMS", "SINKS", "STATE"]

_SINK = "{{sink_type}}:{{sink_name}}"
_BY_SINK = "sum by (sink_type, sink_name)"

SINKS = Row(
    "Sinks",
    (
        Panel(
            "Payloads written",
            "Per second. Healthy: as the flow produces them; 0 with records in flight means a held sink.",
            "ops",
            (Query(f"{_BY_SINK} ({rate('sink_payloads_delivered_total')})", _SINK),),
        ),
        Panel(
            "Failed writes",
            "Batches that failed, retried or not, and payloads given up, per second. Healthy: 0.",
            "ops",
            (
                Query(f"{_BY_SINK} ({rate('sink_deliver_errors_total')})", f"{_SINK} batches failed"),
                Query(f"{_BY_SINK} ({rate('sink_delivery_retries_total')})", f"{_SINK} batches retried"),
                Query(f"{_BY_SINK} ({rate('sink_payloads_failed_total')})", f"{_SINK} payloads given up"),
                Query(f"{_BY_SINK} ({rate('sink_deliveries_skipped_total')})", f"{_SINK} payloads skipped"),
            ),
        ),
        Panel(
            "Seconds of a write, p99",
            "Healthy: steady. It rises before a target fails.",
            "s",
            (Query(quantile(0.99, "sink_deliver_duration_seconds", "sink_type", "sink_name"), _SINK),),
        ),
        Panel(
            "Circuits",
            "1 while the circuit breaker of a sink is open, 0.5 while one batch probes; the worst worker. Healthy: 0.",
            "none",
            (Query(f"max by (sink_type, sink_name) ({of('sink_circuit_open')})", _SINK),),
            width=12,
            at_most=1,
        ),
        Panel(
            "Circuits opened",
            "Times a circuit breaker opened in each interval, also after a failed probe. Healthy: 0.",
            "short",
            (
                Query(
                    f"{_BY_SINK} (increase({of('sink_circuit_trips_total')}[$__rate_interval]))",
                    _SINK,
                ),
            ),
            width=12,
        ),
    ),
)

PROGRAMS = Row(
    "Programs",
    (
        Panel(
            "Tasks by status",
            "Per second. Healthy: started and completed lie on each other, failed is 0.",
            "ops",
            (
                Query(f"sum by (status, executor) ({rate('executor_tasks_total')})", "{{status}} {{executor}}"),
                Query(f"sum({rate('tasks_precomputed_total')})", "precomputed"),
            ),
        ),
        Panel(
            "Seconds of a program",
            "Healthy: steady, below executor.task_timeout_seconds.",
            "s",
            tuple(
                Query(quantile(q, "executor_duration_seconds", "executor"), f"p{round(q * 100)} {{{{executor}}}}")
                for q in (0.5, 0.95, 0.99)
            ),
        ),
        Panel(
            "Seconds until a program runs, p99",
            "Wait for a slot, and start of the process. Healthy: start below 0.05, waiting below the program's time.",
            "s",
            (
                Query(quantile(0.99, "executor_queue_wait_seconds", "executor"), "wait {{executor}}"),
                Query(quantile(0.99, "executor_spawn_seconds", "executor"), "start {{executor}}"),
            ),
        ),
        Panel(
            "Slots",
            "Running programs, and the maximum. Healthy: below the maximum, or at it while the lag falls.",
            "short",
            (
                Query(f"sum by (executor) ({of('executor_pool_active')})", "running {{executor}}"),
                Query(f"sum by (executor) ({of('executor_pool_max')})", "maximum {{executor}}"),
            ),
        ),
        Panel(
            "Retries, timeouts, cut outputs",
            "Per second. Healthy: 0. A replay of duplicates means task ids that repeat.",
            "ops",
            (
                Query(f"sum({rate('task_retries_total')})", "retries"),
                Query(f"sum by (executor) ({rate('executor_timeouts_total')})", "timeouts {{executor}}"),
                Query(f"sum by (stream) ({rate('executor_output_truncated_total')})", "{{stream}} cut"),
                Query(f"sum({rate('duplicate_tasks_total')})", "duplicates"),
                Query(f"sum({rate('executor_priority_fn_errors_total')})", "priority errors"),
            ),
        ),
        Panel(
            "Children, breakers, shortages",
            "Long-lived children per second; breakers (1 is open) and host shortages (1 while it lasts). Healthy: few "
            "starts, no failed child, breakers and shortages at 0.",
            "short",
            (
                Query(f"sum by (executor) ({rate('executor_children_started_total')})", "started/s {{executor}}"),
                Query(
                    f"sum by (outcome, executor) ({rate('executor_children_ended_total')})",
                    "ended/s {{outcome}} {{executor}}",
                ),
                Query(f"sum by (executor) ({rate('executor_tasks_fallen_back_total')})", "fallen back/s {{executor}}"),
                Query(f"max by (executor) ({of('executor_breaker_state')})", "breaker {{executor}}"),
                Query(f"max by (part, lacks) ({of('host_shortage')})", "shortage of {{lacks}} for {{part}}"),
            ),
        ),
    ),
    collapsed=True,
)

HOOKS = Row(
    "Hooks",
    (
        Panel(
            "Seconds of a hook, p99",
            "Healthy: milliseconds; a hook that calculates for longer blocks the event loop and belongs into offload.",
            "s",
            (Query(quantile(0.99, "handler_duration_seconds", "hook"), "{{hook}}"),),
        ),
        Panel(
            "Calls of hooks",
            "Per second. Healthy: follows the rate of records.",
            "ops",
            (Query(f"sum by (hook) ({rate('handler_duration_seconds_count')})", "{{hook}}"),),
        ),
        Panel(
            "Errors of hooks",
            "Calls that raised, and undecodable values, per second. Healthy: 0.",
            "ops",
            (
                Query(f"sum by (hook) ({rate('handler_hook_errors_total')})", "{{hook}}"),
                Query(f"sum by (topic) ({rate('message_parse_failures_total')})", "decode {{topic}}"),
                Query(
                    f"sum by (reason) ({rate('recorder_annotations_dropped_total')})",
                    "annotation {{reason}}",
                ),
            ),
        ),
        Panel(
            "Windows",
            "Seconds from arranging a window to the end of its last task. Healthy: about the time of a task.",
            "s",
            tuple(Query(quantile(q, "batch_duration_seconds"), f"p{round(q * 100)}") for q in (0.5, 0.99)),
        ),
        Panel(
            "Periodic functions",
            "Runs per second by status, and seconds of a run. Healthy: no run with status error.",
            "short",
            (
                Query(f"sum by (name, status) ({rate('periodic_task_runs_total')})", "{{name}} {{status}}/s"),
                Query(quantile(0.99, "periodic_task_duration_seconds", "name"), "{{name}} p99 s"),
            ),
        ),
        Panel(
            "Offloaded calls",
            "Running and waiting calls, and seconds of a call. Healthy: none waits.",
            "short",
            (
                Query(f"sum({of('offload_running')})", "running"),
                Query(f"sum({of('offload_queued')})", "waiting"),
                Query(quantile(0.99, "offload_duration_seconds", "hook"), "{{hook}} p99 s"),
            ),
        ),
    ),
    collapsed=True,
)

STATE = Row(
    "State",
    (
        Panel(
            "Keys by topic",
            "Final keys of keyed state, in memory. Healthy: levels off, or grows as the number of real keys does; "
            "else ttl_s is missing.",
            "short",
            (Query(f"sum by (topic) ({of('state_keys')})", "keys {{topic}}"),),
        ),
        Panel(
            "Bytes by topic",
            "Bytes of final keys and values. Healthy: well below the memory of a worker.",
            "bytes",
            (Query(f"sum by (topic) ({of('state_bytes')})", "{{topic}}"),),
        ),
        Panel(
            "Restore",
            "Seconds until the state of an assigned partition was read, and keys read per second. Records of the "
            "partition wait meanwhile. Healthy: below 5 s, only at rebalances.",
            "short",
            (
                Query(quantile(0.9, "state_restore_seconds"), "p90 s"),
                Query(f"sum({rate('state_restored_keys_total')})", "keys/s"),
            ),
        ),
    ),
    collapsed=True,
)
