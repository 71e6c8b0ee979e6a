"""Brake: distinguishes a mistake, which fails every record, from bad data. Pure: no I/O, clock or thread."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple

__all__ = ["RECORDS_PER_FAILURE", "Brake", "Cause"]

RECORDS_PER_FAILURE = 10
"""Factor on `stop_after` for causes that a record may be responsible for."""
_CAUSES = 200
_MOSTLY = 10  # multiple of the records in flight that must have finished before these hardly count


class Cause(NamedTuple):
    """Cause of a failure: equal for all failures of one mistake.

    A success of `step` refutes the cause. `certain` means that no record can be responsible:
    a missing table, a route without the payload's sink, a program that can't be started.
    """

    step: Hashable
    kind: str
    text: str
    certain: bool = False


class _Run:
    """The failures of one cause since its step last succeeded."""

    __slots__ = ("failures", "records")

    def __init__(self) -> None:
        self.failures = 0
        self.records: set[Hashable] = set()


class Brake:
    """Counts failures by cause and decides which may be a mistake, and which are one.

    A *run* of a cause are its failures with no success of their step in between. A run is a mistake:

    * if its cause is `certain`: after `stop_after` failures, or failures of so many records if its step has never
      succeeded;
    * for any other cause, which may be bad data: if its run also has ten times as many records, and its step has never
      succeeded;
    * if the cause fails a share of `max_ratio` of at least `window` records; 0 turns `max_ratio` off.

    >>> brake, cause = Brake(stop_after=2, max_ratio=0.9, window=1000), Cause("sink", "sink", "no table", certain=True)
    >>> brake.fail(cause, [1])
    >>> brake.suspects(cause), brake.stops(cause)
    (True, False)
    >>> brake.succeed("sink")
    >>> brake.suspects(cause)
    False
    """

    def __init__(self, stop_after: int, max_ratio: float, window: int) -> None:
        self._stop_after = stop_after
        self._max_ratio = max_ratio
        self._window = window
        self._worked: set[Hashable] = set()
        self._runs: dict[Cause, _Run] = {}
        self._shares: dict[Cause, set[Hashable]] = {}
        self._began = 0
        self._exceeded: Cause | None = None

    def fail(
        self,
        cause: Cause,
        records: Iterable[Hashable],
        *,
        failures: int = 1,
        finished: int = 0,
        in_flight: int = 0,
        refuted: bool = False,
    ) -> None:
        """Count a failure of `records`; `failures` is the number of failed calls.

        `finished` is the number of finished records, `in_flight` of unfinished ones, which count as good. A failure is
        `refuted` if its step has succeeded since.
        """
        records = set(records)
        if not refuted and (cause.certain or cause.step not in self._worked):
            run = self._runs.setdefault(cause, _Run())
            run.failures += failures
            if not self._is_long(cause, run):
                run.records |= records
            if len(self._runs) > _CAUSES:
                del self._runs[next(iter(self._runs))]
        if self._max_ratio:
            self._share(cause, records, finished, in_flight)

    def _share(self, cause: Cause, records: set[Hashable], finished: int, in_flight: int) -> None:
        share = self._shares.setdefault(cause, set())
        share |= records
        seen = finished - self._began
        if seen + in_flight >= self._window and len(share) >= self._max_ratio * (seen + in_flight):
            self._exceeded = cause
        elif self._exceeded is None and seen >= max(self._window, _MOSTLY * in_flight):
            self._shares.clear()
            self._began = finished

    def succeed(self, step: Hashable) -> None:
        """Note that a step works: its runs are over."""
        self._worked.add(step)
        for cause in [cause for cause in self._runs if cause.step == step]:
            del self._runs[cause]

    def forget(self, cause: Cause) -> None:
        """End the run of a cause: later failures do not belong to it."""
        self._runs.pop(cause, None)

    def suspects(self, cause: Cause) -> bool:
        """True if the failures of a cause may still be a mistake."""
        return cause in self._runs or cause == self._exceeded

    def stops(self, cause: Cause) -> bool:
        """True if the failures of a cause are a mistake."""
        run = self._runs.get(cause)
        return cause == self._exceeded or (run is not None and self._is_long(cause, run))

    def exceeds_ratio(self, cause: Cause) -> bool:
        """True if a cause fails a share of `max_ratio`."""
        return cause == self._exceeded

    def count(self, cause: Cause) -> int:
        """Number of failures that count against a cause: of records, if it exceeds `max_ratio`, else of calls."""
        run = self._runs.get(cause)
        if run is None or self.exceeds_ratio(cause):
            return len(self._shares.get(cause, ()))
        return run.failures

    def _is_long(self, cause: Cause, run: _Run) -> bool:
        if cause.certain:
            records = 0 if cause.step in self._worked else len(run.records)
            return max(run.failures, records) >= self._stop_after
        return run.failures >= self._stop_after and len(run.records) >= RECORDS_PER_FAILURE * self._stop_after
