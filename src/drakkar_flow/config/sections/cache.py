"""The `cache` section: the cache of values by key."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, model_validator

from drakkar_flow.config.base import Section

__all__ = ["CacheConfig", "CachePeerSyncConfig"]


class CachePeerSyncConfig(Section):
    """Exchange of entries with the scopes CLUSTER and GLOBAL between workers, by files in a directory."""

    enabled: bool = True
    """Enables the exchange."""
    dir: str = ""
    """Directory of the change files, for all workers the same, a shared filesystem for workers of several hosts; empty
    is `.changes` in the directory of the cache."""
    secret: SecretStr = SecretStr("")
    """Secret, the same for all workers, that signs the change files; without one only this user may write to the
    directory."""
    interval_seconds: float = Field(default=30, gt=0)
    """Seconds between two rounds."""
    batch_size: int = Field(default=500, ge=1)
    """The most entries taken from a peer at once."""
    timeout_seconds: float = Field(default=5, gt=0)
    """Seconds one peer may take."""
    cycle_deadline_seconds: float | None = Field(default=None, ge=0.1)
    """Seconds one round may take; null means 0.9 of interval_seconds."""

    @model_validator(mode="after")
    def _within_the_interval(self) -> Self:
        if self.cycle_deadline_seconds is not None and self.cycle_deadline_seconds >= self.interval_seconds:
            raise ValueError(
                f"cycle_deadline_seconds ({self.cycle_deadline_seconds:g}) must be below "
                f"interval_seconds ({self.interval_seconds:g})"
            )
        return self


class CacheConfig(Section):
    """The cache of values by key, in memory and on disk."""

    enabled: bool = False
    """Enables the cache."""
    db_dir: str = ""
    """Directory of the cache's file, on a local disk, that only this user may write to; empty is `.cache` in
    debug.db_dir if that is set, else `$XDG_STATE_HOME/drakkar-flow/cache`, or `.local/state/drakkar-flow/cache` in the
    home directory."""
    flush_interval_seconds: float = Field(default=3.0, gt=0)
    """Seconds between two writes to disk, the most that a crash of the process loses."""
    cleanup_interval_seconds: float = Field(default=60.0, gt=0)
    """Seconds between two removals of expired entries."""
    max_memory_entries: int | None = Field(default=10_000, ge=1)
    """The most entries held in memory; null means no bound but max_memory_mib."""
    max_memory_mib: float = Field(default=64, gt=0)
    """The most MiB of entries held in memory."""
    max_disk_mib: float = Field(default=1024, ge=1)
    """The most MiB of entries on disk; the oldest go first."""
    peer_sync: CachePeerSyncConfig = CachePeerSyncConfig()
    """Exchange of caches between workers."""
