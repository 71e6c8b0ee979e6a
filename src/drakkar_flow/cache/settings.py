"""Settings of a worker's cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CacheSettings"]


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Place and bounds of a cache. `directory` None means the user's state directory."""

    worker: str
    directory: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    flush_s: float = 3.0
    cleanup_s: float = 60.0
    max_entries: int | None = 10_000
    max_size: int = 64 * 1024 * 1024
    max_file_size: int = 1024 * 1024 * 1024
