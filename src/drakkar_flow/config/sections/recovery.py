"""The `runtime.recovery` section: the store of positions and state on a local disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from drakkar_flow.config.base import Section

__all__ = ["RecoveryStoreConfig"]


class RecoveryStoreConfig(Section):
    """The recovery store. With this section one process reads all partitions of the topic, without a consumer group's
    assignment, and restores positions and state from a local directory. Without it the group assigns the partitions."""

    dir: Path | None = None
    """Directory of the store, on a local disk; null takes `recovery/` followed by the flow's name. It is created."""
    snapshot_interval_s: float = Field(default=1.0, gt=0)
    """Seconds between two snapshots; it replaces runtime.epoch_interval_s. After a crash the records finished since
    the last one are delivered again."""
    backup_interval_s: float = Field(default=0.0, ge=0)
    """Seconds that outdated snapshots are kept. Set it to at least the time a backup of the directory takes, so that
    the copies of its files have a snapshot in common."""
    partitions: int = Field(default=4, ge=1, le=64)
    """Files of a new store; an existing store keeps its number."""
    on_lost: Literal["fail", "commits", "earliest"] = "fail"
    """Start of a flow with state whose store is missing although the group has committed offsets: refused, from the
    committed offsets with empty state, or from the beginning of the topic with empty state. A flow without state
    continues from the committed offsets."""
    on_incompatible: Literal["fail", "reset"] = "fail"
    """Start with a store of another flow, group, cluster, topic or state schema: refused, or with a new store. The old
    one is moved aside."""

    @field_validator("dir", mode="before")
    @classmethod
    def _a_directory_has_a_name(cls, value: Any) -> Any:
        if not value and value is not None:
            raise ValueError("must not be empty; remove it for the default")
        return value
