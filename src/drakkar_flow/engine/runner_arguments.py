"""Arguments that `python -m bytewax.run` was given: its recovery store is the same as `runtime.recovery`."""

from __future__ import annotations

import sys
from typing import Any

from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.sections.recovery import RecoveryStoreConfig
from drakkar_flow.errors import ConfigError, Problem

__all__ = ["runner_arguments", "with_arguments"]


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
    given = {"dir": str(store.db_dir), "backup_interval_s": store.backup_interval.total_seconds()}
    if (interval := arguments.get("epoch_interval")) is not None:
        given["snapshot_interval_s"] = interval.total_seconds()
    recovery = config.runtime.recovery or RecoveryStoreConfig()
    runtime = config.runtime.model_copy(update={"recovery": recovery.model_copy(update=given)})
    return config.replaced(runtime=runtime)
