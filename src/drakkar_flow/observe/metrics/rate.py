"""Rate of events over a sliding window. Pure."""

from __future__ import annotations

__all__ = ["SlidingRate"]


class SlidingRate:
    """Counts over the last `window_s` seconds, in buckets of one second; memory is constant.

    Times are seconds of a monotonic clock. Not thread-safe.

    >>> rate = SlidingRate(window_s=10, started_at=0.0)
    >>> rate.add(50, now=1.0)
    >>> rate.per_second(now=5.0), rate.per_second(now=10.0), rate.per_second(now=30.0)
    (10.0, 5.0, 0.0)
    """

    def __init__(self, window_s: int, started_at: float) -> None:
        self._window_s = window_s
        self._started_at = started_at
        self._counts = [0] * window_s
        self._newest = int(started_at)  # second of the newest bucket

    def add(self, count: int, now: float) -> None:
        """Count `count` more at `now`."""
        self._turn_to(now)
        self._counts[self._newest % self._window_s] += count

    def per_second(self, now: float) -> float:
        """Return the mean per second over the window that ends at `now`, or since the start if that is shorter."""
        self._turn_to(now)
        elapsed_s = min(float(self._window_s), max(now - self._started_at, 1.0))
        return sum(self._counts) / elapsed_s

    def _turn_to(self, now: float) -> None:
        second = int(now)
        for stale in range(max(self._newest + 1, second - self._window_s + 1), second + 1):
            self._counts[stale % self._window_s] = 0
        self._newest = max(self._newest, second)
