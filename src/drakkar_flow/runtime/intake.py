"""Intake: how many records may be read while an executor has a queue. Pure."""

from __future__ import annotations

__all__ = ["Intake"]

_REFILL_S = 0.02  # long enough for what was read to show as load, short enough to keep any executor busy
_MOST = 5_000  # every 20 ms: more than any flow handles


class Intake:
    """Keeps an executor's queue between two marks, without knowing how many tasks a record will become.

    Every 20 ms it grants what is missing to `high`. While the load stays at or below `low` and
    records finish at the pace of the grants, as they do where most tasks are precomputed, the grant
    doubles; as soon as there is a queue it is `high` at most again. Records that wait elsewhere (for
    their window, for a slow sink, for a retry) do not count: other bounds hold them.

    >>> intake = Intake(high=4, low=1)
    >>> intake.room(now=0.0, load=0, finished=0)
    4
    >>> intake.take(3)
    >>> intake.room(now=0.01, load=3, finished=0), intake.room(now=0.02, load=3, finished=0)
    (1, 1)
    """

    def __init__(self, high: int, low: int) -> None:
        self._high = high
        self._low = low
        self._grant = high
        self._left = 0
        self._finished = 0
        self._next_at = float("-inf")

    def room(self, *, now: float, load: int, finished: int) -> int:
        """How many records may be read now.

        `now` is monotonic seconds; `load` the tasks that run or wait for the executor; `finished`
        the records finished since the start.
        """
        if now >= self._next_at:
            self._next_at = now + _REFILL_S
            self._refill(load, finished - self._finished)
            self._finished = finished
        return self._left

    def take(self, count: int) -> None:
        """Note that `count` records were read."""
        self._left -= count

    def _refill(self, load: int, finished: int) -> None:
        if load > self._low:
            self._grant = self._high
            self._left = max(0, self._high - load)
        else:
            if self._left <= 0 and finished * 2 >= self._grant:
                self._grant = min(self._grant * 2, _MOST)
            self._left = self._grant
