"""Completion rate: the records in flight that a drain can finish. Pure: the caller passes the time."""

from __future__ import annotations

__all__ = ["Pace"]

_INTERVAL_S = 0.25
_SAMPLE = 20  # records: fewer say little about the rate
_LONGEST_S = 10.0
_LONGEST_STEP_S = 0.5  # between two measurements without progress: more is a process that was suspended
_SHARE = 0.8  # of the drain, as a reserve for records that take longer than others


class Pace:
    """Measures how fast records finish and limits those in flight to what `drain_s` seconds can finish.

    A higher rate counts immediately; after a lower one the estimate halves at most per measurement, so that one slow
    moment does not starve the flow. Time without records in flight does not count.

    Args:
        drain_s: seconds that a drain has.
        floor: the limit is never below this many records, so that parallel work does not starve.
        start: the limit until the first measurement.

    >>> pace = Pace(drain_s=10.0, floor=4, start=250)
    >>> pace.limit(now=0.0, in_flight=250, finished=0)
    250
    >>> pace.limit(now=1.0, in_flight=250, finished=50)
    400
    """

    def __init__(self, drain_s: float, floor: int, start: int) -> None:
        self._drain_s = drain_s
        self._floor = floor
        self._limit = max(floor, start)
        self._rate: float | None = None
        self._asked_at: float | None = None
        self._busy = False
        self._busy_s = 0.0
        self._seen = self._begin = 0

    def limit(self, *, now: float, in_flight: int, finished: int) -> int:
        """Return the limit of records in flight.

        `now` is monotonic seconds; `finished` counts the records finished since the start.
        """
        passed_s = now - self._asked_at if self._asked_at is not None else 0.0
        if finished != self._seen:
            self._busy_s += passed_s
        elif self._busy:
            self._busy_s += min(passed_s, _LONGEST_STEP_S)
        self._asked_at, self._busy, self._seen = now, in_flight > 0, finished
        if self._busy_s >= _INTERVAL_S:
            done = finished - self._begin
            if done >= _SAMPLE or self._busy_s >= _LONGEST_S:
                self._measured(done / self._busy_s)
                self._busy_s, self._begin = 0.0, finished
        return self._limit

    def _measured(self, rate: float) -> None:
        self._rate = rate if self._rate is None else max(rate, self._rate / 2)
        self._limit = max(self._floor, int(self._rate * self._drain_s * _SHARE))
