"""The `runtime` section: how much is in flight, when offsets are committed, what happens to failures."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from drakkar_flow.config.base import Section
from drakkar_flow.config.sections.cluster import ClusterConfig
from drakkar_flow.config.sections.recovery import RecoveryStoreConfig
from drakkar_flow.config.sections.state import StateConfig

__all__ = ["RuntimeConfig"]


class RuntimeConfig(Section):
    """Bounds and rhythms of the running flow."""

    max_in_flight_records: int = Field(default=10_000, ge=1)
    """The most records between the source and their commit."""
    max_in_flight_mib: float = Field(default=64, gt=0)
    """The most MiB between the source and their commit: of records, of the output of their tasks, of payloads and of
    dead letters."""
    buffer_records_per_partition: int = Field(default=5_000, ge=1)
    """The most records of one partition read ahead; the partition pauses there."""
    buffer_mib: float = Field(default=64, gt=0)
    """The most MiB read ahead, all partitions together."""
    commit_interval_s: float = Field(default=0.5, gt=0)
    """Seconds after which finished offsets are committed."""
    commit_max_offsets: int = Field(default=1_000, ge=1)
    """Finished offsets that are committed without waiting for commit_interval_s; not used with a state topic."""
    commit_metadata_bytes: int = Field(default=3_072, ge=0, le=4_096)
    """Bytes of a commit's metadata for offsets finished out of order, so that a restart does not reprocess
    them; 0 stores none."""
    drain_timeout_s: float | None = Field(default=None, gt=0)
    """Seconds that records in flight get to finish at shutdown; null takes executor.drain_timeout_seconds."""
    close_timeout_s: float = Field(default=5.0, ge=1)
    """Seconds after the drain for the last commit and for closing sinks, executor and hooks. The default and that of
    executor.drain_timeout_seconds are together below the 30 seconds that Kubernetes waits before it kills."""
    epoch_interval_s: float = Field(default=1.0, gt=0)
    """Seconds a Bytewax epoch lasts."""
    workers: int = Field(default=1, ge=1, le=256)
    """Bytewax worker threads in this process; more processes scale better than more threads."""
    gc_threshold: int = Field(default=50_000, ge=0)
    """New objects between two runs of Python's cycle collector while a flow runs; 0 leaves it as it is."""
    stuck_after_s: float = Field(default=300, ge=0)
    """Seconds without progress after which a partition with records in flight is logged as stalled, with stacks; set
    it above your longest task; 0 turns it off."""
    blocked_after_s: float = Field(default=5, ge=0)
    """Seconds without activity after which the event loop or the engine is logged as stalled; 0 turns it off."""
    on_decode_error: Literal["skip", "dlq", "fail", "pass"] = "dlq"
    """Policy for records that can't be decoded: dropped, a dead letter, the flow ends, or continue with payload
    None and the reason in parse_error."""
    on_task_error: Literal["skip", "dlq"] = "skip"
    """Policy for failed tasks if the handler has no `on_error`: dropped, or a dead letter."""
    recovery: RecoveryStoreConfig | None = None
    """The recovery store; null reads as a member of the consumer group, without a store. An empty section, `{}`, takes
    the defaults."""
    cluster: ClusterConfig | None = None
    """Processes that share the partitions of the recovery store; null is one process."""
    state: StateConfig = StateConfig()
    """The store of keyed state."""

    @model_validator(mode="after")
    def _a_store_has_one_worker(self) -> Self:
        if self.recovery is not None and self.workers > 1:
            raise ValueError("runtime.recovery needs runtime.workers: 1; remove one of the two settings")
        if self.cluster is not None and self.recovery is None:
            raise ValueError("runtime.cluster needs runtime.recovery; add recovery: {}")
        return self

    @model_validator(mode="after")
    def _state_has_one_store(self) -> Self:
        store, given = self.state.store, self.state.model_fields_set
        if store == "recovery" and self.recovery is None:
            raise ValueError("runtime.state.store: recovery needs runtime.recovery; add recovery: {}")
        if store in ("kafka", "memory") and self.recovery is not None:
            raise ValueError(f"runtime.state.store: {store} excludes runtime.recovery; remove one of the two settings")
        if self.recovery is not None and (useless := sorted({"topic", "on_mismatch"} & given)):
            raise ValueError(
                f"runtime.state.{useless[0]} has no effect with runtime.recovery, whose on_lost and on_incompatible "
                "decide; remove it"
            )
        return self
