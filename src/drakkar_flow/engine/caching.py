"""Cache of a worker, made of its configuration."""

from __future__ import annotations

import os
from pathlib import Path

from drakkar_flow.cache.service import CacheService
from drakkar_flow.cache.settings import CacheSettings, PeerSettings
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.observe.bus import Bus

__all__ = ["cache_of"]

_MIB = 1024 * 1024
_ROUND = 0.9  # of the interval


def cache_of(config: DrakkarConfig, worker: str, cluster: str, bus: Bus) -> CacheService:
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
        peers=_peers(config, cluster) if cache.peer_sync.enabled else None,
    )
    return CacheService(settings, bus)


def _peers(config: DrakkarConfig, cluster: str) -> PeerSettings:
    peers = config.cache.peer_sync
    round_s = peers.cycle_deadline_seconds
    return PeerSettings(
        cluster=cluster,
        directory=Path(peers.dir) if peers.dir else None,
        secret=peers.secret.get_secret_value().encode(),
        interval_s=peers.interval_seconds,
        page=peers.batch_size,
        peer_s=peers.timeout_seconds,
        round_s=_ROUND * peers.interval_seconds if round_s is None else round_s,
    )


def _directory(config: DrakkarConfig) -> Path | None:
    if config.cache.db_dir:
        return Path(config.cache.db_dir)
    return Path(config.debug.db_dir) / ".cache" if config.debug.db_dir else None
