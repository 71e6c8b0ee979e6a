"""The `offload` section: the threads for a handler's own computing."""

from __future__ import annotations

from pydantic import Field

from drakkar_flow.config.base import Section

__all__ = ["OffloadConfig"]


class OffloadConfig(Section):
    """The thread pool behind `handler.offload`."""

    max_threads: int = Field(default=0, ge=0, le=32)
    """Calls that run at once; 0 takes a quarter of executor.max_executors, at least 2, at most 32."""
