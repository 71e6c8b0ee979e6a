"""Control: the word to stop, shared by signals, sources and steps of one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from drakkar_flow.model.record import Lane, Record

__all__ = ["Control"]


class Control:
    """Says whether the flow is to stop, why, and until when work in flight may finish. Thread-safe."""

    def __init__(self, drain_timeout_s: float) -> None:
        self._drain_timeout_s = drain_timeout_s
        self._lock = threading.RLock()  # a signal handler may run while its thread holds it
        self._deadline: float | None = None
        self._held: set[tuple[Lane, int, int]] = set()
        self.failure: str | None = None
        self.stopping = False
        self.turns: dict[int, int] = {}
        """How often each of the engine's threads, by its ident, has come by the source."""

    def stop(self) -> bool:
        """Ask for an orderly end; returns whether this was the first time."""
        with self._lock:
            first = not self.stopping
            if first:
                self._deadline = time.monotonic() + self._drain_timeout_s
                self.stopping = True
        return first

    def fail(self, reason: str) -> None:
        """Ask for an orderly end because of `reason`; the first reason is kept, the exit code is 1."""
        with self._lock:
            if self.failure is None:
                self.failure = reason
        self.stop()

    def hold(self, records: Iterable[Record]) -> None:
        """Note records that keep their credit for good, so that a drain does not wait for them."""
        with self._lock:
            self._held.update((record.lane, record.epoch, record.offset) for record in records)

    @property
    def held(self) -> int:
        """How many records will never finish."""
        return len(self._held)

    def abandon(self, reason: str) -> None:
        """Ask for the end at once because of `reason`: the drain's budget is over."""
        self.fail(reason)
        with self._lock:
            self._deadline = time.monotonic()

    @property
    def budget_s(self) -> float:
        """Seconds left for the drain, 0 when it is over."""
        return max(0.0, self._deadline - time.monotonic()) if self._deadline is not None else self._drain_timeout_s
