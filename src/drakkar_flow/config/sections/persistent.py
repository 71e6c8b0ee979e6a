"""The `executor.persistent` section."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from drakkar_flow.config.base import Section

__all__ = ["PersistentConfig"]


class PersistentConfig(Section):
    """Start, protocol and replacement of long-lived children (`executor.mode: persistent`)."""

    protocol: Literal["worker", "lines"] = "worker"
    """Protocol of the children: that of docs/worker-protocol.md, or lines, for filters like `cat` and `jq`."""
    answer: Literal["line", "marker"] = "line"
    """End of a filter's answer: one line each, or a marker line `#drakkar-<n>`, which it must pass through."""
    args: list[str] = []
    """The command line of the children, after executor.binary_path."""
    children: int | None = Field(default=None, ge=1)
    """Number of children; null takes executor.max_executors."""
    max_in_flight_per_child: int | None = Field(default=None, ge=1)
    """The most requests a child has at once; null takes what a worker says it can, and 64 for a filter."""
    max_frame_bytes: int = Field(default=16 * 1024 * 1024, ge=1024)
    """The longest request or answer."""
    start_timeout_s: float = Field(default=10.0, gt=0)
    """Seconds a child has to get ready."""
    idle_output_timeout_s: float | None = Field(default=None, gt=0)
    """Seconds a child with work may write nothing, progress included, before it is killed; null does not watch."""
    recycle_after_requests: int | None = Field(default=None, ge=1)
    """A child is replaced after so many requests, the first ones earlier so that it is not all at once; null never."""
    recycle_after_s: float | None = Field(default=None, gt=0)
    """A child is replaced after so many seconds, one after the other; null never."""
    recycle_above_mib: float | None = Field(default=None, gt=0)
    """A child whose resident memory is larger is replaced, one after the other; null never."""
    restart_initial_s: float = Field(default=0.1, gt=0)
    """The longest pause before a child that failed is started again; it doubles with each failure in a row."""
    restart_max_s: float = Field(default=30.0, gt=0)
    """The longest that pause becomes."""
    breaker_failures: int = Field(default=5, ge=1)
    """So many failures of children in a row, without an answer between, open the breaker: none is started any more."""
    breaker_cooldown_s: float = Field(default=10.0, ge=0)
    """Seconds until a single child is started to see whether it works again."""
    unavailable_after_s: float | None = Field(default=None, gt=0)
    """Seconds after which a task fails that waits while no child runs; null takes `executor.unavailable_after_s`."""
    fallback_oneshot: bool = False
    """Runs tasks one-shot that can't be encoded for a child, or while the breaker is open and all children are full."""
    close_grace_s: float = Field(default=1.0, ge=0)
    """Seconds a child that is no longer needed has to end by itself."""

    @model_validator(mode="after")
    def _pauses_grow(self) -> Self:
        if self.restart_initial_s > self.restart_max_s:
            raise ValueError("restart_initial_s must not be more than restart_max_s")
        return self
