"""Keys and times of rows: a key is microseconds of the wall clock << 4 plus a sequence. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Keys", "Timeline", "key_of", "us_of"]

_SEQUENCE_BITS = 4
_STEP_US = 1_000_000


class Keys:
    """Keys of one table of one file: unique and ascending, whatever the times.

    >>> keys = Keys()
    >>> [keys.next(5), keys.next(5), keys.next(3)] == [key_of(5), key_of(5) + 1, key_of(5) + 2]
    True
    """

    def __init__(self) -> None:
        self._last = -1

    def next(self, us: int) -> int:
        """Return the key of the next row, at `us` microseconds or directly behind the last key if that is later."""
        self._last = max(self._last + 1, key_of(us))
        return self._last


def key_of(us: int) -> int:
    """Return the lowest key of a time."""
    return us << _SEQUENCE_BITS


def us_of(key: int) -> int:
    """Return the time of a key."""
    return key >> _SEQUENCE_BITS


@dataclass(frozen=True, slots=True)
class Timeline:
    """Converts the monotonic clock to the wall clock as it was at one instant: steps of the wall clock do not reach it.

    >>> timeline = Timeline(wall_ns=5_000_000_000, monotonic_ns=1_000_000_000)
    >>> timeline.us(1_000_002_000)
    5000002
    """

    wall_ns: int
    monotonic_ns: int

    def us(self, monotonic_ns: int) -> int:
        """Return the microseconds of the wall clock at a time of the monotonic clock."""
        return (self.wall_ns + monotonic_ns - self.monotonic_ns) // 1000

    def step_us(self, wall_ns: int, monotonic_ns: int) -> int:
        """Return by how much the wall clock was set since, if by more than a second, else 0."""
        step = wall_ns // 1000 - self.us(monotonic_ns)
        return step if abs(step) > _STEP_US else 0
