"""Intake: how many more records an executor's queue may take. Pure."""

from __future__ import annotations

__all__ = ["Intake"]

_UNBOUNDED = 1 << 30


class Intake:
    """Stops at `high` and goes on when `low` is reached, so that a stop never waits for a long queue.

    Records count as well as tasks: a record just read has no task yet. While nothing but
    precomputed tasks was ever seen there is no queue, and no bound.

    >>> intake = Intake(high=4, low=1)
    >>> [intake.room(started=9, load=load, in_flight=load, finished=9) for load in (2, 4, 2, 1)]
    [2, 0, 0, 3]
    """

    def __init__(self, high: int, low: int) -> None:
        self._high = high
        self._low = low
        self._resting = False

    def room(self, *, started: int, load: int, in_flight: int, finished: int) -> int:
        """How many records may be read now.

        `started` and `finished` count tasks given to the executor and records finished so far;
        `load` and `in_flight` are tasks it has and records under way.
        """
        if started == 0 and finished > 0:
            return _UNBOUNDED
        busy = max(load, in_flight)
        self._resting = busy > self._low if self._resting else busy >= self._high
        return 0 if self._resting else self._high - busy
