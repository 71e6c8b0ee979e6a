"""Positions: what may be committed and what has not been yet."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from drakkar_flow.model.record import Lane, Watermark

__all__ = ["Positions"]


class Positions:
    """Gathers watermarks and says which are due. Thread-safe.

    Whoever commits passes the present assignments, and only positions of these are given: a
    watermark of an assignment that has ended is never committed.
    """

    def __init__(self, interval_s: float, max_offsets: int, now: float) -> None:
        self._interval_s = interval_s
        self._max_offsets = max_offsets
        self._lock = threading.Lock()
        self._positions: dict[Lane, tuple[int, int]] = {}
        self._accepted: dict[Lane, int] = {}
        self._dirty: set[Lane] = set()
        self._scattered: dict[Lane, int] = {}  # the epoch of lanes with finished records beyond their watermark
        self._finished = 0
        self._waits_since: float | None = None  # for the brokers' word on the oldest commit
        self.uncommitted = 0
        """Finished offsets that no broker has accepted yet: what a crash now would repeat."""
        self._taken_at = now

    def note(self, watermarks: Iterable[Watermark]) -> None:
        """Take watermarks in."""
        with self._lock:
            for lane, epoch, offset in watermarks:
                before = self._positions.get(lane)
                if before is not None and epoch < before[0]:
                    continue  # it comes late: the log was rewound meanwhile
                if before is None or before[0] != epoch:
                    self._drop(lane)
                    before = (epoch, offset - 1)
                    self._accepted[lane] = offset - 1
                self._finished += offset - before[1]
                self.uncommitted += offset - before[1]
                self._positions[lane] = (epoch, offset)
                self._dirty.add(lane)

    def scattered(self, spans: Mapping[tuple[Lane, int], int]) -> None:
        """Take in that what is finished beyond the watermark of lanes has changed: it is committed along."""
        with self._lock:
            for (lane, epoch), count in spans.items():
                if self._positions.get(lane, (epoch, 0))[0] != epoch:
                    self._drop(lane)
                self._dirty.add(lane)
                if count:
                    self._scattered[lane] = epoch
                else:
                    self._scattered.pop(lane, None)

    def due(self, now: float) -> bool:
        """Whether it is time to commit: enough offsets, or long enough since the last time."""
        if not self._dirty:
            return False
        return now - self._taken_at >= self._interval_s or self._finished >= self._max_offsets

    def take(self, assignments: Mapping[Lane, int], now: float) -> dict[Lane, int]:
        """The offsets to commit, which count as committed unless `put_back` says otherwise.

        0 stands for where the assignment started: nothing is finished there, but something beyond.
        """
        with self._lock:
            offsets = self._of(self._dirty, assignments)
            self._dirty.clear()
            self._finished = 0
            self._taken_at = now
            if offsets and self._waits_since is None:
                self._waits_since = now
        return offsets

    def overdue(self, now: float, limit_s: float) -> bool:
        """Whether the brokers have accepted nothing for `limit_s` seconds though they were asked."""
        since = self._waits_since
        return since is not None and now - since > limit_s

    def accepted(self, offsets: Mapping[Lane, int]) -> None:
        """The brokers have taken offsets."""
        with self._lock:
            self._waits_since = None
            for lane, offset in offsets.items():
                before = self._accepted.get(lane)
                if before is not None and before < offset <= self._positions[lane][1]:
                    self._accepted[lane] = offset
                    self.uncommitted -= offset - before

    def put_back(self, lanes: Iterable[Lane]) -> None:
        """A commit was refused: it is due again, with what is known by then."""
        with self._lock:
            self._dirty.update(lane for lane in lanes if lane in self._positions or lane in self._scattered)

    def of(self, assignments: Mapping[Lane, int]) -> dict[Lane, int]:
        """The offsets of assignments, committed or not; 0 as in `take`."""
        with self._lock:
            return self._of(assignments, assignments)

    def forget(self, lanes: Iterable[Lane]) -> None:
        """The partitions are no longer ours."""
        with self._lock:
            for lane in lanes:
                self._drop(lane)
            if not self._positions:
                self._waits_since = None

    def _drop(self, lane: Lane) -> None:
        position = self._positions.pop(lane, None)
        if position is not None:
            self.uncommitted -= position[1] - self._accepted.pop(lane)
        self._dirty.discard(lane)
        self._scattered.pop(lane, None)

    def _of(self, lanes: Iterable[Lane], assignments: Mapping[Lane, int]) -> dict[Lane, int]:
        found = {}
        for lane in lanes:
            epoch, offset = self._positions.get(lane, (self._scattered.get(lane, -1), 0))
            if epoch == assignments.get(lane):
                found[lane] = offset
        return found
