"""Engine options: the arguments of Bytewax for a configuration, and those that Bytewax's own runner was given."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from bytewax.recovery import RecoveryConfig as StoreConfig
from bytewax.recovery import init_db_dir

from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.sections.recovery import RecoveryConfig
from drakkar_flow.config.sections.runtime import RuntimeConfig
from drakkar_flow.errors import ConfigError, Problem

__all__ = ["engine_options", "runner_arguments", "with_arguments"]


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
    store = StoreConfig(directory, backup)  # type: ignore[no-untyped-call]
    return {"epoch_interval": timedelta(seconds=recovery.snapshot_interval_s), "recovery_config": store}


def runner_arguments() -> dict[str, Any]:
    """Return the arguments with which `python -m bytewax.run` will run the dataflow; empty under another program.

    It keeps them in a global of its module, and passes what stands there when the dataflow has been made.
    """
    found = getattr(sys.modules["__main__"], "kwargs", None)
    return found if isinstance(found, dict) and "recovery_config" in found else {}


def with_arguments(config: DrakkarConfig, arguments: dict[str, Any]) -> DrakkarConfig:
    """Return a configuration with the recovery store that `-r`, `-s` and `-b` of Bytewax's runner name.

    Raises:
        ConfigError: the runner was given several worker threads, and there is a store.
    """
    store = arguments.get("recovery_config")
    threads = arguments.get("workers_per_process") or 1
    if threads > 1 and (store is not None or config.runtime.recovery is not None):
        remedy = "leave -w out: programs and hooks already run side by side, on other threads"
        raise ConfigError([Problem("-w", f"{threads} worker threads can't share a recovery store", remedy)])
    if store is None:
        return config
    given = {"dir": Path(store.db_dir), "backup_interval_s": store.backup_interval.total_seconds()}
    if (interval := arguments.get("epoch_interval")) is not None:
        given["snapshot_interval_s"] = interval.total_seconds()
    recovery = config.runtime.recovery or RecoveryConfig()
    runtime = config.runtime.model_copy(update={"recovery": recovery.model_copy(update=given)})
    return config.replaced(runtime=runtime)
