"""Settings of a group's member."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["GroupSettings"]


class GroupSettings(NamedTuple):
    """Settings of a GroupReader; times in seconds, sizes in bytes."""

    topics: tuple[str, ...]
    properties: dict[str, Any]
    poll_records: int = 1000
    buffer_records_per_partition: int = 5000
    buffer_size: int = 64 * 1024 * 1024
    commit_interval_s: float = 0.5
    commit_max_offsets: int = 1000
    drain_timeout_s: float = 30.0
    metadata_size: int = 3072
    metadata_refresh_s: float = 10.0
    session_timeout_s: float = 45.0
    client: dict[str, Any] | None = None
    """Properties of the connection; without them starting positions and topic ids are not checked."""
