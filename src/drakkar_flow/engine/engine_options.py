"""Engine options: the arguments of Bytewax for a configuration."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from bytewax.recovery import RecoveryConfig, init_db_dir

from drakkar_flow.config.sections.runtime import RuntimeConfig

__all__ = ["engine_options"]


def engine_options(flow: str, runtime: RuntimeConfig) -> dict[str, Any]:
    """Return the arguments of `bytewax.run.cli_main`; makes the recovery store on first use."""
    recovery = runtime.recovery
    if recovery is None:
        epoch = timedelta(seconds=runtime.epoch_interval_s)
        return {"workers_per_process": runtime.workers, "epoch_interval": epoch}
    directory = recovery.dir or Path("recovery") / flow
    if not list(directory.glob("part-*.sqlite3")):
        directory.mkdir(parents=True, exist_ok=True)
        init_db_dir(directory, recovery.partitions)  # type: ignore[no-untyped-call]
    backup = timedelta(seconds=recovery.backup_interval_s)
    store = RecoveryConfig(directory, backup)  # type: ignore[no-untyped-call]
    return {"epoch_interval": timedelta(seconds=recovery.snapshot_interval_s), "recovery_config": store}
