"""Ticks: counts and durations by second and name, exact; older ones are added up to longer spans. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, log

import msgspec

__all__ = ["Tick", "TickFolder", "TickRow", "bucket_of", "fold", "merge_buckets", "quantile"]

_GAMMA = 1.15
_LOG_GAMMA = log(_GAMMA)
_MIN_US = 1.0

TickRow = tuple[int, int, int, int, int, float, float, str]
"""Second, span in seconds, name, n, bytes, sum, max, buckets."""


class Tick(msgspec.Struct, gc=False):
    """Sums of one name in one second; values are seconds, or any number for a gauge."""

    n: int = 0
    size: int = 0
    total: float = 0.0
    peak: float = 0.0
    buckets: dict[int, int] = {}

    def row(self, second: int, name: int) -> TickRow:
        """Return the row."""
        return (second, 1, name, self.n, self.size, self.total, self.peak, _encode(self.buckets))


def bucket_of(seconds: float) -> int:
    """Return the number of the logarithmic bucket of a duration: microseconds, 15 % wide.

    >>> bucket_of(0.0), bucket_of(1e-6), bucket_of(1.0)
    (0, 0, 99)
    """
    us = seconds * 1e6
    return ceil(log(us) / _LOG_GAMMA) if us > _MIN_US else 0


def quantile(buckets: dict[int, int], q: float) -> float:
    """Return a quantile of the durations in seconds, within 8 %; 0.0 if there are none.

    >>> round(quantile({bucket_of(0.01): 98, bucket_of(5.0): 2}, 0.99))
    5
    """
    rank = int(q * (sum(buckets.values()) - 1))
    seen = 0
    for number in sorted(buckets):
        seen += buckets[number]
        if seen > rank:
            return float(_GAMMA**number * 2 / (1 + _GAMMA)) / 1e6
    return 0.0


class TickFolder:
    """Adds up the ticks of the present seconds; a row is given again, with the sums so far, until its second is over.

    >>> ticks = TickFolder()
    >>> ticks.add(7, 1, n=3, size=90)
    >>> ticks.timed(7, 2, [0.25])
    >>> ticks.take(before=7)
    [(7, 1, 1, 3, 90, 0.0, 0.0, ''), (7, 1, 2, 1, 0, 0.25, 0.25, '89:1')]
    """

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], Tick] = {}
        self._changed: set[tuple[int, int]] = set()

    def add(self, second: int, name: int, n: int = 1, size: int = 0, total: float = 0.0, peak: float = 0.0) -> None:
        """Add counts, without a distribution."""
        tick = self._tick(second, name)
        tick.n += n
        tick.size += size
        tick.total += total
        if peak > tick.peak:
            tick.peak = peak

    def timed(self, second: int, name: int, durations: Sequence[float], times: int = 1) -> None:
        """Add durations in seconds, each of them `times`."""
        tick = self._tick(second, name)
        buckets = tick.buckets
        for each in durations:
            number = bucket_of(each)
            buckets[number] = buckets.get(number, 0) + times
        tick.n += len(durations) * times
        tick.total += sum(durations) * times
        tick.peak = max(tick.peak, *durations) if durations else tick.peak

    def take(self, before: int) -> list[TickRow]:
        """Return the changed rows, and forget seconds before `before`: they get no more events."""
        changed = sorted(self._changed)
        rows = [self._open[place].row(*place) for place in changed]
        self._changed = set()
        for place in [place for place in self._open if place[0] < before]:
            del self._open[place]
        return rows

    def _tick(self, second: int, name: int) -> Tick:
        place = (second, name)
        self._changed.add(place)
        tick = self._open.get(place)
        if tick is None:
            tick = self._open[place] = Tick()
        return tick


def fold(rows: Iterable[TickRow], span: int) -> list[TickRow]:
    """Add up rows to spans of `span` seconds; sums stay exact, the largest value stays.

    >>> fold([(10, 1, 4, 2, 0, 0.5, 0.4, "3:2"), (19, 1, 4, 1, 8, 0.1, 0.1, "3:1"), (20, 1, 4, 1, 0, 0.0, 0.0, "")], 10)
    [(10, 10, 4, 3, 8, 0.6, 0.4, '3:3'), (20, 10, 4, 1, 0, 0.0, 0.0, '')]
    """
    sums: dict[tuple[int, int], list[TickRow]] = {}
    for row in rows:
        sums.setdefault((row[0] - row[0] % span, row[2]), []).append(row)
    return [
        (
            second,
            max(span, *(row[1] for row in some)),
            name,
            sum(row[3] for row in some),
            sum(row[4] for row in some),
            sum(row[5] for row in some),
            max(row[6] for row in some),
            _encode(merge_buckets(row[7] for row in some)),
        )
        for (second, name), some in sorted(sums.items())
    ]


def merge_buckets(texts: Iterable[str]) -> dict[int, int]:
    """Return the sums of encoded buckets."""
    merged: dict[int, int] = {}
    for text in texts:
        for part in text.split(",") if text else ():
            number, _, count = part.partition(":")
            merged[int(number)] = merged.get(int(number), 0) + int(count)
    return merged


def _encode(buckets: dict[int, int]) -> str:
    return ",".join([f"{number}:{buckets[number]}" for number in sorted(buckets)])
