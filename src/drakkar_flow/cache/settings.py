"""Settings of a worker's cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CacheSettings", "PeerSettings"]


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Place and bounds of a cache. `directory` None means the user's state directory.

    `again_s` is the time between two attempts after a write has failed.
    """

    worker: str
    directory: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    flush_s: float = 3.0
    cleanup_s: float = 60.0
    again_s: float = 30.0
    max_entries: int | None = 10_000
    max_size: int = 64 * 1024 * 1024
    max_file_size: int = 1024 * 1024 * 1024
    peers: PeerSettings | None = None


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """Exchange with the caches of other workers; `directory` None means one beside the files of this host's workers."""

    cluster: str = ""
    directory: Path | None = None
    secret: bytes = b""
    interval_s: float = 30.0
    page: int = 500
    peer_s: float = 5.0
    round_s: float = 27.0
