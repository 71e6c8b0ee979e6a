"""Admission control: bound of the records that may be read while an executor has a queue. Pure."""

from __future__ import annotations

__all__ = ["AdmissionControl"]

_REFILL_S = 0.02  # long enough for new records to show as load, short enough to keep any executor busy
_MOST = 5_000  # every 20 ms: more than any flow handles


class AdmissionControl:
    """Keeps the queue of an executor between two marks. The number of tasks per record need not be known.

    The marks are multiples of the executor's slots. The high mark rises to the number of tasks that the executor ended
    in 40 ms at its last pace. Fast pools therefore do not run dry, and queues of slow tasks do not grow.

    Every 20 ms the intake grants the records that are missing to `high`. The grant doubles while the load stays at or
    below `low` and records finish at the pace of the grants, as they do when most tasks are precomputed. The grant is
    limited to `high` again as soon as there is a queue.

    Records that wait elsewhere (for their window, a slow sink or a retry) do not count: other bounds limit them.

    >>> intake = AdmissionControl(high=4, low=1)
    >>> intake.room(now=0.0, slots=1, load=0, finished=0)
    4
    >>> intake.take(3)
    >>> intake.room(now=0.01, slots=1, load=3, finished=0), intake.room(now=0.02, slots=1, load=3, finished=0)
    (1, 1)
    """

    def __init__(self, high: int, low: int) -> None:
        self._high = high
        self._low = low
        self._grant = 0
        self._left = 0
        self._finished = 0
        self._ended = 0
        self._next_at = float("-inf")

    def room(self, *, now: float, slots: int, load: int, finished: int, ended: int = 0) -> int:
        """Return the number of records that may be read now.

        `now` is in monotonic seconds. `slots` is the number of tasks that the executor runs at once. `load` is the
        number of tasks that run or wait for the executor. `finished` is the number of records finished since the start.
        """
        if now >= self._next_at:
            late_s = now - self._next_at
            self._next_at = now + _REFILL_S
            pace = (ended - self._ended) * _REFILL_S / (_REFILL_S + late_s)
            high = max(slots * self._high, int(2 * pace))
            low = min(high - 1, max(1, slots * self._low))
            self._refill(high, low, load, finished - self._finished)
            self._finished = finished
            self._ended = ended
        return self._left

    def take(self, count: int) -> None:
        """Count records that were read."""
        self._left -= count

    def _refill(self, high: int, low: int, load: int, finished: int) -> None:
        if load > low:
            self._grant = high
            self._left = max(0, high - load)
        else:
            self._grant = max(self._grant, high)
            if self._left <= 0 and finished * 2 >= self._grant:
                self._grant = max(high, min(self._grant * 2, _MOST))
            self._left = self._grant
