"""Cache of a worker, made of its configuration."""

from __future__ import annotations

import os
from pathlib import Path

from drakkar_flow.cache.service import CacheService
from drakkar_flow.cache.settings import CacheSettings
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.observe.bus import Bus

__all__ = ["cache_of"]

_MIB = 1024 * 1024


def cache_of(config: DrakkarConfig, worker: str, bus: Bus) -> CacheService:
    """Return the cache that the configuration describes."""
    cache = config.cache
    settings = CacheSettings(
        worker=worker,
        directory=_directory(config),
        environ=os.environ,
        flush_s=cache.flush_interval_seconds,
        cleanup_s=cache.cleanup_interval_seconds,
        max_entries=cache.max_memory_entries,
        max_size=int(cache.max_memory_mib * _MIB),
        max_file_size=int(cache.max_disk_mib * _MIB),
    )
    return CacheService(settings, bus)


def _directory(config: DrakkarConfig) -> Path | None:
    if config.cache.db_dir:
        return Path(config.cache.db_dir)
    return Path(config.debug.db_dir) / ".cache" if config.debug.db_dir else None
