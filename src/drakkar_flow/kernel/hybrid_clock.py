"""Hybrid clock: stamps that follow the wall clock, never repeat and never go back. Pure: the caller passes the time.

A stamp is milliseconds since the epoch, and a counter within the millisecond, in one integer.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_AHEAD_MS", "HybridClock", "latest_stamp", "milliseconds_of", "stamp_at"]

_COUNTER_BITS: Final = 16
MAX_AHEAD_MS: Final = 5 * 60 * 1000
"""Milliseconds that a stamp may be ahead of the wall clock: a wrong clock must not win permanently."""


class HybridClock:
    """Makes the stamps of one worker.

    >>> clock = HybridClock()
    >>> first, second = clock.tick(1000), clock.tick(1000)
    >>> first < second < clock.tick(999), milliseconds_of(second)
    (True, 1000)
    """

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def tick(self, now_ms: int) -> int:
        """Return the next stamp; greater than all before, unless these are too far ahead of the wall clock."""
        stamp = now_ms << _COUNTER_BITS
        if stamp <= self.last <= latest_stamp(now_ms):
            stamp = self.last + 1
        self.last = stamp
        return stamp

    def observe(self, stamp: int, now_ms: int) -> bool:
        """Let later stamps be greater than that of another worker; returns False if it is too far ahead."""
        if stamp > latest_stamp(now_ms):
            return False
        self.last = max(self.last, stamp)
        return True


def stamp_at(ms: int) -> int:
    """Return the first stamp of a millisecond."""
    return ms << _COUNTER_BITS


def latest_stamp(now_ms: int) -> int:
    """Return the greatest stamp that counts at a time."""
    return ((now_ms + MAX_AHEAD_MS + 1) << _COUNTER_BITS) - 1


def milliseconds_of(stamp: int) -> int:
    """Return the milliseconds since the epoch of a stamp."""
    return stamp >> _COUNTER_BITS
