"""The `runtime.recovery` section: fixed mode with a durable store."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from drakkar_flow.config.base import Section

__all__ = ["RecoveryConfig"]


class RecoveryConfig(Section):
    """Store of positions and state; with it this process alone reads all partitions."""

    dir: Path | None = None
    """Directory of the store; null takes recovery/FLOW. It is made on first use."""
    snapshot_interval_s: float = Field(default=1.0, gt=0)
    """Seconds between two rows of a partition; a crash repeats what finished since the last one."""
    backup_interval_s: float = Field(default=0.0, ge=0)
    """Seconds that old rows are kept at least, so that backups of the files at different times fit together."""
    partitions: int = Field(default=4, ge=1, le=64)
    """Files of a new store; it only affects how many can be written side by side."""
    on_lost: Literal["fail", "commits", "earliest"] = "fail"
    """Policy for a lost store of a flow with state: the start fails, empty state from the group's commits, or from the
    earliest records."""
    on_incompatible: Literal["fail", "reset"] = "fail"
    """Policy for a store of another flow, cluster or schema of state: the start fails, or the store is moved aside."""
