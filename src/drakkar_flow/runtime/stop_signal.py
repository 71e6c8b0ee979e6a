"""Stop signal: the request to drain, shared by signals, sources and steps of one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from math import inf

from drakkar_flow.model.record import Record, TopicPartition

__all__ = ["StopSignal"]

_LEAST_S = 0.2  # for a component that could close at once, though others have used up the time


class StopSignal:
    """Request to stop the flow, with its reason and the time until which records in flight may finish. Thread-safe."""

    def __init__(self, drain_timeout_s: float, close_timeout_s: float = 5.0) -> None:
        self._drain_timeout_s = drain_timeout_s
        self._close_timeout_s = close_timeout_s
        self._stop_at: float | None = None
        self._lock = threading.RLock()  # a signal handler may run while its thread holds the lock
        self._deadline: float | None = None
        self._held: set[tuple[TopicPartition, int, int]] = set()
        self.failure: str | None = None
        self.stopping = False
        self.on_stop: Callable[[], object] = bool
        """Called when a new request moves the end of the flow forward; from any thread and from signal handlers."""
        self.turns: dict[int, int] = {}
        """Number of times each engine thread, by its ident, has called the source."""
        self.on_hold: Callable[[list[Record]], object] = bool
        """Called with records that keep their credit permanently, before they are counted; from any thread."""

    def stop(self) -> bool:
        """Request an orderly end; returns True for the first request."""
        with self._lock:
            first = not self.stopping
            if first:
                self._deadline = time.monotonic() + self._drain_timeout_s
                self._stop_at = self._deadline + self._close_timeout_s
                self.stopping = True
        self.on_stop()
        return first

    def fail(self, reason: str) -> None:
        """Request an orderly end because of `reason`; the first reason is kept, the exit code is 1."""
        with self._lock:
            if self.failure is None:
                self.failure = reason
        self.stop()

    def hold(self, records: Iterable[Record]) -> None:
        """Count records that keep their credit permanently, so that a drain does not wait for them."""
        records = list(records)
        self.on_hold(records)
        with self._lock:
            self._held.update((record.topic_partition, record.epoch, record.offset) for record in records)

    @property
    def held(self) -> int:
        """Number of records that will never finish."""
        return len(self._held)

    def abandon(self, reason: str) -> None:
        """Request an immediate end because of `reason`: the drain's budget is over."""
        self.fail(reason)
        with self._lock:
            self._deadline = time.monotonic()
            self._stop_at = min(self._stop_at or inf, self._deadline + self._close_timeout_s)
        self.on_stop()

    @property
    def stop_budget_s(self) -> float:
        """Seconds left for the whole stop, the drain and the close; negative when the stop is overdue."""
        if self._stop_at is None:
            return self._drain_timeout_s + self._close_timeout_s
        return self._stop_at - time.monotonic()

    def close_budget_s(self, reserve_s: float = 0.0) -> float:
        """Seconds in which one component may close, so that `reserve_s` are left for the others; at least a moment."""
        return max(_LEAST_S, self.stop_budget_s - reserve_s)

    @property
    def budget_s(self) -> float:
        """Seconds left for the drain, 0 when its budget is over."""
        return max(0.0, self._deadline - time.monotonic()) if self._deadline is not None else self._drain_timeout_s
