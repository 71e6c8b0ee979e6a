"""Recorder of a worker, made of its configuration."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from drakkar_flow._version import __version__
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.observe.metrics.collectors import RuntimeGauges
from drakkar_flow.recorder.fold.folder import Gauges, redacted
from drakkar_flow.recorder.fold.names import storable
from drakkar_flow.recorder.recorder import Recorder
from drakkar_flow.recorder.settings import RecorderSettings

__all__ = ["gauges_of", "recorder_of"]

_MIB = 1024 * 1024
_MAX_PARTITIONS = 100  # with gauges; of more, those with the largest values


def recorder_of(
    config: DrakkarConfig, worker: str, cluster: str, flow: str, read: Callable[[], RuntimeGauges]
) -> Recorder:
    """Return the recorder that the configuration describes."""
    debug = config.debug
    settings = RecorderSettings(
        worker=storable(worker),
        directory=Path(debug.db_dir) if debug.db_dir else None,
        environ=os.environ,
        flush_s=debug.flush_interval_seconds,
        max_buffer=debug.max_buffer,
        rotate_s=debug.rotation_interval_minutes * 60,
        rotate_size=int(debug.rotation_mib * _MIB),
        keep_size=int(debug.retention_mib * _MIB),
        keep_s=debug.retention_hours * 3600,
        details=debug.store_events,
        outputs=debug.store_events and debug.store_output,
        min_task_s=debug.event_min_duration_ms / 1000,
        trace_every=debug.trace_every,
        gauge_s=debug.state_sync_interval_seconds,
        gauges=(lambda: gauges_of(read())) if debug.store_state else dict,
        redact=config.redactor,
        meta={
            "cluster": storable(cluster),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "flow": storable(flow),
            "group_id": storable(config.kafka.consumer_group),
            "version": __version__,
            "config": _config(config) if debug.store_config else "",
            "environment": _environment(config, os.environ),
        },
    )
    return Recorder(settings)


def gauges_of(now: RuntimeGauges) -> Gauges:
    """Return gauges by kind and text of their names.

    >>> gauges_of(RuntimeGauges(in_flight_records=3, lag={("in", 0): 7}))[("lag", "in:0")]
    7
    """
    values: dict[tuple[str, str], float] = {
        ("gauge", "in_flight_records"): now.in_flight_records,
        ("gauge", "in_flight_bytes"): now.in_flight_bytes,
        ("gauge", "buffered_records"): sum(now.queued.values()),
        ("gauge", "executor_running"): now.executor_running,
        ("gauge", "executor_waiting"): now.executor_waiting,
        ("gauge", "executor_slots"): now.executor_slots,
        ("gauge", "oldest_s"): max(now.oldest_s.values(), default=0.0),
        ("gauge", "health"): now.health,
    }
    for kind, by_partition in (("lag", now.lag), ("pending", now.pending), ("oldest_s", now.oldest_s)):
        largest = sorted(by_partition, key=lambda at: -by_partition[at])[:_MAX_PARTITIONS]
        values |= {(kind, f"{topic}:{partition}"): by_partition[topic, partition] for topic, partition in largest}
    return values


def _config(config: DrakkarConfig) -> str:
    given = config.model_dump(mode="json", exclude={"app"}, exclude_unset=True)
    return _json(given, config)


def _environment(config: DrakkarConfig, environ: Mapping[str, str]) -> str:
    return _json({name: environ[name] for name in config.debug.expose_env_vars if name in environ}, config)


def _json(value: Mapping[str, Any], config: DrakkarConfig) -> str:
    redact = config.redactor
    return msgspec.json.encode(redacted(value, lambda text: storable(redact(text)))).decode()
