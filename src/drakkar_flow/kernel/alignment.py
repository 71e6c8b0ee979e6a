"""Aligned start: the time at which workers that are started together begin to read."""

from __future__ import annotations

from math import ceil

__all__ = ["aligned_start"]


def aligned_start(now_s: float, min_wait_s: float, interval_s: int) -> float:
    """The first multiple of `interval_s` that is at least `min_wait_s` away; all times are seconds since 1970.

    Clocks that differ by less than the wait give the same answer, except close to a multiple.

    >>> [aligned_start(now_s, 4.0, 10) for now_s in (12.0, 16.0, 17.0)]
    [20.0, 20.0, 30.0]
    """
    return float(ceil((now_s + min_wait_s) / interval_s) * interval_s)
