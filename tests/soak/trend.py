"""Trend of a series of samples: Theil-Sen slope with its confidence interval. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import median
from typing import NamedTuple

__all__ = ["Trend", "trend"]

_Z = 2.576  # 99 %, both sides
_BLOCKS = 24  # samples that follow each other depend on each other; medians of blocks do so less
_LEAST = 6


class Trend(NamedTuple):
    """Slope in units per hour, the bounds of its 99 % interval, and the hours and the level of the series."""

    slope: float
    low: float
    high: float
    hours: float
    level: float

    @property
    def growth(self) -> float:
        """Growth over the whole series."""
        return self.slope * self.hours

    def grows(self, floor: float) -> bool:
        """Return True if the slope is above 0 beyond its noise, and the growth is more than `floor` units."""
        return self.low > 0 and self.growth > floor


def trend(samples: Sequence[tuple[float, float]]) -> Trend:
    """Return the trend of (seconds, value) pairs, in the order of time.

    The slope is the median of the slopes between all pairs of blocks, so a single peak does not move it. The interval
    is Sen's, by the variance of Kendall's statistic. It takes blocks as independent.

    >>> flat = trend([(second, 7.0) for second in range(60)])
    >>> flat.slope, flat.grows(0)
    (0.0, False)
    >>> leak = trend([(second, 100 + second) for second in range(60)])
    >>> round(leak.slope), leak.grows(10), leak.grows(100)
    (3600, True, False)

    Raises:
        ValueError: there are fewer than 6 samples.
    """
    if len(samples) < _LEAST:
        raise ValueError(f"{len(samples)} samples have no trend: take {_LEAST} or more")
    points = _blocks(samples)
    slopes = sorted(
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for index, earlier in enumerate(points)
        for later in points[index + 1 :]
    )
    count = len(points)
    spread = _Z * sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = slopes[max(0, round((len(slopes) - spread) / 2))]
    high = slopes[min(len(slopes) - 1, round((len(slopes) + spread) / 2))]
    hours = (samples[-1][0] - samples[0][0]) / 3600
    return Trend(3600 * median(slopes), 3600 * low, 3600 * high, hours, median(value for _, value in samples))


def _blocks(samples: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the medians of consecutive samples, at most `_BLOCKS`."""
    size = max(1, -(-len(samples) // _BLOCKS))
    return [
        (median(at for at, _ in block), median(value for _, value in block))
        for block in (samples[start : start + size] for start in range(0, len(samples), size))
    ]
