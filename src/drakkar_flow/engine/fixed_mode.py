"""Fixed mode: opens the recovery store while a flow starts, and holds it while the flow runs."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.engine.cluster_process import ClusterProcess
from drakkar_flow.engine.recovery_start import active_members, brokers_of, identity_of, plan_starts, value_problems
from drakkar_flow.engine.startup import Unreached, check_source
from drakkar_flow.errors import Problem, StartupError
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.kernel.recovery_start import Start, StartRefused
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.runtime.recovery.brokers import BrokerState
from drakkar_flow.runtime.recovery.directory import SINGLE, Place, directory_of
from drakkar_flow.runtime.recovery.positions import DurablePositions
from drakkar_flow.runtime.recovery.store import Store, open_store

__all__ = ["FixedMode"]

_SQLITE = re.compile(r'SqliteFailure\(.*Some\("([^"]*)"\)')


class FixedMode:
    """The store of one run: `check` opens it, `close` releases its lock."""

    def __init__(
        self,
        flow: StreamFlow,
        config: DrakkarConfig,
        positions: DurablePositions,
        log: Any,
        cluster: ClusterProcess | None = None,
    ) -> None:
        assert config.runtime.recovery is not None
        self._flow = flow
        self._config = config
        self._settings = config.runtime.recovery
        self._positions = positions
        self._log = log
        self._cluster = cluster
        self._held = ExitStack()
        self._store: Store | None = None

    def check(self, unreached: Unreached) -> None:
        """Wait until the brokers answer, open the store, and decide where each partition begins.

        Raises:
            StartupError: with every problem of the source, the store, or the partitions.
        """
        cluster = self._cluster
        if cluster is not None:
            cluster.join()
        check_source(self._config.kafka, unreached)
        if cluster is not None and not cluster.is_first:
            cluster.wait_for_store()
        try:
            self._open()
        except StartupError:
            if cluster is not None:
                cluster.check_others()  # without the first one its lock is free: no fault of the settings
            raise
        if cluster is not None and cluster.is_first:
            cluster.wait_for_store()

    def _open(self) -> None:
        self._check_alone()
        brokers = brokers_of(self._flow, self._config)
        directory = directory_of(self._settings, self._flow.name)
        identity = identity_of(self._flow, self._config, brokers)
        store = self._held.enter_context(open_store(directory, identity, self._settings, self._place()))
        for notice in store.notices:
            self._log.warning("recovery_notice", what=notice, expect="the flow starts")
        starts = self._starts(store, brokers)
        store.accept()
        self._store = store
        self._positions.begin(starts)
        fields = {"directory": str(directory), "partitions": len(starts), "rows": len(store.found.rows)}
        self._log.info("recovery_store_opened", **fields)

    def options(self) -> dict[str, Any]:
        """Return the arguments of `bytewax.run.cli_main`."""
        assert self._store is not None
        interval = timedelta(seconds=self._settings.snapshot_interval_s)
        cluster = {} if self._cluster is None else self._cluster.options()
        return {"epoch_interval": interval, "recovery_config": self._store.config, **cluster}

    def explained(self, panic: str) -> str:
        """Return the reason of Bytewax's panic: the directory and the error, if the store can't be written.

        The panic of a process in a cluster hides its cause, so the directory is tried.
        """
        if self._store is None:
            return panic
        found = _SQLITE.search(panic)
        fault = found[1] if found is not None else self._store.fault()
        return f"the recovery store {self._store.directory} can't be written: {fault}" if fault else panic

    def close(self) -> None:
        """Release the lock of the store; safe to call twice."""
        self._held.close()

    def _place(self) -> Place:
        settings = self._config.runtime.cluster
        return SINGLE if settings is None else Place(settings.process_id, settings.processes)

    def _check_alone(self) -> None:
        """Refuse to read for a group that has members: the brokers would refuse the commits."""
        if members := active_members(self._config):
            group, names = self._config.kafka.consumer_group, ", ".join(sorted(set(members))[:3])
            what = f"{group!r} has {len(members)} active members ({names}); runtime.recovery reads alone"
            remedy = "stop them, or give this flow another consumer_group"
            raise StartupError([Problem("kafka.consumer_group", what, remedy)])

    def _starts(self, store: Store, brokers: BrokerState) -> dict[TopicPartition, Start]:
        problems = list(value_problems(self._flow, store.found.states, int(time.time() * 1000)))
        starts: dict[TopicPartition, Start] = {}
        for at, found in plan_starts(self._flow, self._config, self._settings, store, brokers).items():
            if isinstance(found, StartRefused):
                problems.append(Problem("runtime.recovery", found.what, found.remedy))
                continue
            if found.warning:
                self._log.warning("recovery_start", what=found.warning, expect="the flow starts")
            starts[at] = found
        if problems:
            raise StartupError(problems)
        return starts
