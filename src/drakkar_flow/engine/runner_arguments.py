"""Arguments that `python -m bytewax.run` was given: its store and its cluster are the same as in `runtime`."""

from __future__ import annotations

import sys
from typing import Any

from pydantic import ValidationError

from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.sections.recovery import RecoveryStoreConfig
from drakkar_flow.config.sections.runtime import RuntimeConfig
from drakkar_flow.errors import ConfigError, Problem

__all__ = ["runner_arguments", "with_arguments"]


def runner_arguments() -> dict[str, Any]:
    """Return the arguments with which `python -m bytewax.run` will run the dataflow; empty under another program.

    It keeps them in a global of its module, and passes what stands there when the dataflow has been made.
    """
    found = getattr(sys.modules["__main__"], "kwargs", None)
    return found if isinstance(found, dict) and "recovery_config" in found else {}


def with_arguments(config: DrakkarConfig, arguments: dict[str, Any]) -> DrakkarConfig:
    """Return a configuration with what Bytewax's runner was given: the store of `-r`, `-s`, `-b`, the cluster of `-i`,
    `-a`.

    Raises:
        ConfigError: there are a store and several worker threads, or a value is not valid.
    """
    return _with_cluster(_with_store(config, arguments), arguments)


def _with_store(config: DrakkarConfig, arguments: dict[str, Any]) -> DrakkarConfig:
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
    try:
        recovery = RecoveryStoreConfig(**{**dict(config.runtime.recovery or {}), **given})
    except ValidationError as exc:
        remedy = "change -r, -s or -b"
        raise ConfigError(
            [Problem(f"runtime.recovery.{each['loc'][0]}", each["msg"], remedy) for each in exc.errors()]
        ) from None
    return config.replaced(runtime=config.runtime.model_copy(update={"recovery": recovery}))


def _with_cluster(config: DrakkarConfig, arguments: dict[str, Any]) -> DrakkarConfig:
    given = {name: arguments[name] for name in ("addresses", "process_id") if arguments.get(name) is not None}
    if not given:
        return config
    runtime = config.runtime.model_dump(exclude_unset=True)
    runtime["cluster"] = {**(runtime.get("cluster") or {}), **given}
    try:
        return config.replaced(runtime=RuntimeConfig.model_validate(runtime))
    except ValidationError as exc:
        texts = [error["msg"].removeprefix("Value error, ") for error in exc.errors()]
        raise ConfigError([Problem("-i and -a", text) for text in texts]) from None
