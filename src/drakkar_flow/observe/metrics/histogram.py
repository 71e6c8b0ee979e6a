"""Histogram of fixed size with quantiles within 4 %. Pure."""

from __future__ import annotations

from math import ceil, log

__all__ = ["LogHistogram"]

_ERROR = 0.04  # relative error of a quantile
_GAMMA = (1 + _ERROR) / (1 - _ERROR)  # ratio between the ends of neighbouring buckets
_LOG_GAMMA = log(_GAMMA)
_MIN = 1e-6  # a microsecond: shorter values count as this
_MAX = 1e6  # eleven days: longer values count as this
_BUCKETS = ceil(log(_MAX / _MIN) / _LOG_GAMMA) + 1


class LogHistogram:
    """Counts durations in 346 logarithmic buckets.

    A quantile is within 4 % of the true one for values from 1 microsecond to 1e6 seconds; values
    outside count as the nearest bound. Not thread-safe.

    >>> histogram = LogHistogram()
    >>> for ms in range(1, 101):
    ...     histogram.add(ms / 1000)
    >>> histogram.count, round(histogram.quantile(0.5), 2)
    (100, 0.05)
    """

    def __init__(self) -> None:
        self.count = 0
        self._buckets = [0] * _BUCKETS

    def add(self, value_s: float, count: int = 1) -> None:
        """Count `value_s`, in seconds, `count` times."""
        clamped = min(max(value_s, _MIN), _MAX)
        self._buckets[ceil(log(clamped / _MIN) / _LOG_GAMMA)] += count
        self.count += count

    def quantile(self, q: float) -> float:
        """Estimate the value at rank `floor(q * (count - 1))` of all values in order; 0.0 when there are none."""
        rank = int(q * (self.count - 1))
        seen = 0
        for index, count in enumerate(self._buckets):
            seen += count
            if seen > rank:
                # The point of the bucket with the same relative distance to both of its ends.
                return float(_MIN * _GAMMA**index * 2 / (1 + _GAMMA))
        return 0.0
