"""Identity of a worker: its id, its cluster, and both in one line."""

from __future__ import annotations

import os
from collections.abc import Mapping

from drakkar_flow.config.root import DrakkarConfig

__all__ = ["cluster_name_of", "summary_of", "worker_id_of"]

_SHORT = {"kafka": "kf", "postgres": "pg", "mongo": "mg", "redis": "rd", "filesystem": "fs", "sqlite": "sq"}


def worker_id_of(config: DrakkarConfig, environ: Mapping[str, str], given: str = "") -> str:
    """Return this worker's name: `given`, else the value of the variable `worker_name_env`, else `drakkar-PID`.

    >>> worker_id_of(DrakkarConfig(), {"WORKER_ID": "w-7"})
    'w-7'
    """
    return given or environ.get(config.worker_name_env, "") or f"drakkar-{os.getpid()}"


def cluster_name_of(config: DrakkarConfig, environ: Mapping[str, str]) -> str:
    """Return the name of the group of workers: the value of the variable `cluster_name_env`, else `cluster_name`.

    >>> cluster_name_of(DrakkarConfig(cluster_name="a", cluster_name_env="CLUSTER"), {"CLUSTER": "b"})
    'b'
    """
    return environ.get(config.cluster_name_env, "") or config.cluster_name


def summary_of(config: DrakkarConfig, worker_id: str, cluster_name: str) -> str:
    """Return the main settings of a configuration in one line, in py-drakkar's format.

    >>> summary_of(DrakkarConfig(), "w-7", "")
    '[w-7] topic=input-events group=drakkar-workers exec=4w/100win/100poll retries=3/120s metrics=9090 dlq=on \
sinks=[] log=INFO'
    """
    kafka, executor = config.kafka, config.executor
    instances = {kind: named for kind, named in config.sinks if isinstance(named, dict) and named}
    sinks = " ".join(f"{_SHORT.get(kind, kind)}:{','.join(named)}" for kind, named in instances.items())
    return (
        f"[{worker_id}{'/' if cluster_name else ''}{cluster_name}]"
        f" topic={','.join(kafka.topics)} group={kafka.consumer_group}"
        f" exec={executor.max_executors}w/{executor.window_size}win/{kafka.max_poll_records}poll"
        f" retries={executor.max_retries}/{executor.task_timeout_seconds:g}s"
        f" metrics={config.metrics.port if config.metrics.enabled else 'off'} dlq={config.dlq.topic or 'on'}"
        f" sinks=[{sinks}] log={config.logging.level}"
    )
