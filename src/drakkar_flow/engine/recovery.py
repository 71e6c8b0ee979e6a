"""Fixed mode: opens the recovery store while a flow starts, and decides where each partition begins."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import timedelta
from typing import Any

from confluent_kafka import KafkaException

from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.sections.kafka import client_properties
from drakkar_flow.config.sections.recovery import RecoveryStoreConfig
from drakkar_flow.engine.startup import Unreached, check_source
from drakkar_flow.errors import Problem, StartupError, StateError
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.kernel.kafka_errors import report
from drakkar_flow.kernel.recovery_start import Log, Start, StartPolicy, StartRefused, decide_start
from drakkar_flow.kernel.store_identity import StoredTopic, StoreIdentity
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.model.state import key_of
from drakkar_flow.runtime.recovery.cluster import ClusterState, read_cluster
from drakkar_flow.runtime.recovery.directory import directory_of
from drakkar_flow.runtime.recovery.positions import DurablePositions
from drakkar_flow.runtime.recovery.store import Store, open_store

__all__ = ["FixedMode"]

_KEPT = (
    "kept"  # the store's identity names the steps with state; the versions of their values are checked by themselves
)


class FixedMode:
    """The store of one run. `check` opens it, `close` gives its lock back."""

    def __init__(self, flow: StreamFlow, config: DrakkarConfig, positions: DurablePositions, log: Any) -> None:
        assert config.runtime.recovery is not None
        self._flow = flow
        self._config = config
        self._settings: RecoveryStoreConfig = config.runtime.recovery
        self._positions = positions
        self._log = log
        self._held = ExitStack()
        self._store: Store | None = None
        self._codecs = dict(flow.state_codecs())

    def check(self, unreached: Unreached) -> None:
        """Wait until the brokers answer, open the store, and decide where each partition begins.

        Raises:
            StartupError: with every problem of the source, the store, or the partitions.
        """
        kafka = self._config.kafka
        check_source(kafka, unreached, alone=True)
        try:
            cluster = read_cluster(client_properties(kafka), kafka.consumer_group, kafka.topics)
        except KafkaException as exc:
            raise StartupError([Problem("kafka.brokers", report(exc))]) from exc
        directory = directory_of(self._settings, self._flow.name)
        store = self._held.enter_context(open_store(directory, self._identity(cluster), self._settings))
        for notice in store.notices:
            self._log.warning("recovery_notice", what=notice, expect="the flow starts")
        self._check_values(store)
        starts = self._starts(store, cluster)
        store.accept()
        self._store = store
        self._positions.begin(starts)
        fields = {"directory": str(directory), "partitions": len(starts), "rows": len(store.found.rows)}
        self._log.info("recovery_store_opened", **fields)

    def options(self) -> dict[str, Any]:
        """Return the arguments of `bytewax.run.cli_main`."""
        assert self._store is not None
        return {
            "epoch_interval": timedelta(seconds=self._settings.snapshot_interval_s),
            "recovery_config": self._store.config,
        }

    def close(self) -> None:
        """Give the lock of the store back; safe to call twice."""
        self._held.close()

    def _identity(self, cluster: ClusterState) -> StoreIdentity:
        return StoreIdentity(
            flow=self._flow.name,
            group=self._config.kafka.consumer_group,
            cluster_id=cluster.cluster_id,
            topics={name: StoredTopic(found) for name, found in cluster.topic_ids.items()},
            schema=dict.fromkeys(self._codecs, _KEPT),
        )

    def _check_values(self, store: Store) -> None:
        """Refuse values that another version of a model wrote and the present one can't read: one of each is tried."""
        tried: set[tuple[str, bytes]] = set()
        problems: list[Problem] = []
        for stored in store.found.rows.values():
            for (step, key), value in stored.row.state.items():
                codec = self._codecs.get(step)
                kind = (step, codec.version_of(value)) if codec is not None else None
                if codec is None or kind is None or kind in tried:
                    continue
                tried.add(kind)
                try:
                    codec.decode(value)
                except StateError as exc:
                    problems.append(Problem(f"state of {step}", f"key {key_of(key)!r}: {exc}"))
        if problems:
            raise StartupError(problems, exit_code=2)

    def _starts(self, store: Store, cluster: ClusterState) -> dict[TopicPartition, Start]:
        settings = self._settings
        policy = StartPolicy(
            has_state=bool(self._codecs),
            first_start=store.first_start,
            on_lost=settings.on_lost,
            on_incompatible=settings.on_incompatible,
            auto_offset_reset=self._config.kafka.auto_offset_reset,
        )
        starts: dict[TopicPartition, Start] = {}
        problems: list[Problem] = []
        for at, (first, end) in cluster.logs.items():
            stored = store.found.rows.get(at)
            log = Log(first, end, stored is None or store.is_same_topic(at[0], stored.epoch))
            found = decide_start(at, stored.row if stored else None, cluster.committed.get(at), log, policy)
            if isinstance(found, StartRefused):
                problems.append(Problem("runtime.recovery", found.what, found.remedy))
                continue
            if found.warning:
                self._log.warning("recovery_start", what=found.warning, expect="the flow starts")
            starts[at] = found
        if problems:
            raise StartupError(problems)
        return starts
