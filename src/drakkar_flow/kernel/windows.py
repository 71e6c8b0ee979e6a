"""Windows of event time: assignment of times to windows, merging of sessions, closing by a watermark. Pure.

Times are whole ms. A window is half-open: it has its start and not its end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from heapq import heapify, heappop, heappush
from typing import Generic, NamedTuple, Protocol, TypeVar

__all__ = ["Assigner", "OpenWindows", "Placement", "SessionAssigner", "SlidingAssigner", "Span"]

V = TypeVar("V")


class Span(NamedTuple):
    """Start and end of a window in ms."""

    start_ms: int
    end_ms: int


class Placement(NamedTuple):
    """Window that a time belongs to, and the open windows of its key that become this one; none for a new window."""

    span: Span
    merged: tuple[Span, ...]


class Assigner(Protocol):
    """Rule by which times belong to windows."""

    def place(self, at_ms: int, opened: Collection[Span]) -> list[Placement]:
        """Return the windows of a time; `opened` has the open windows of its key."""
        ...


class SlidingAssigner:
    """Windows of one size that begin at each multiple of `every_ms`; tumbling if both are equal.

    >>> [placement.span.start_ms for placement in SlidingAssigner(60, 20).place(65, [])]
    [20, 40, 60]
    """

    def __init__(self, size_ms: int, every_ms: int) -> None:
        self._size_ms = size_ms
        self._every_ms = every_ms

    def place(self, at_ms: int, opened: Collection[Span]) -> list[Placement]:
        """Return the windows of a time, earliest first; none if it falls between two."""
        size_ms, every_ms = self._size_ms, self._every_ms
        last = at_ms - at_ms % every_ms
        first = last - (size_ms - 1 - at_ms % every_ms) // every_ms * every_ms
        spans = [Span(start, start + size_ms) for start in range(first, last + 1, every_ms)]
        return [Placement(span, (span,) if span in opened else ()) for span in spans]


class SessionAssigner:
    """Sessions: windows that end `gap_ms` after their last time; overlapping ones become one.

    >>> SessionAssigner(10).place(15, [Span(0, 12), Span(8, 18), Span(20, 30)])
    [Placement(span=Span(start_ms=8, end_ms=30), merged=(Span(start_ms=8, end_ms=18), Span(start_ms=20, end_ms=30)))]
    """

    def __init__(self, gap_ms: int) -> None:
        self._gap_ms = gap_ms

    def place(self, at_ms: int, opened: Collection[Span]) -> list[Placement]:
        """Return the session of a time, with the open ones that it joins, earliest first."""
        end_ms = at_ms + self._gap_ms
        merged = sorted(span for span in opened if span.start_ms < end_ms and at_ms < span.end_ms)
        starts, ends = [span.start_ms for span in merged], [span.end_ms for span in merged]
        return [Placement(Span(min([at_ms, *starts]), max([end_ms, *ends])), tuple(merged))]


class OpenWindows(Generic[V]):
    """Open windows of one partition by key, each with a value, and the event-time watermark of the partition.

    The watermark is the greatest time seen, minus the allowed lateness; it never falls. A window is passed when its end
    is not after the watermark. A passed window gets nothing more.

    >>> windows = OpenWindows[int](SlidingAssigner(60, 60), lateness_ms=10)
    >>> (placement,) = windows.place("anna", 5)
    >>> windows.put("anna", placement, 1)
    >>> windows.due(69), windows.due(70)
    ([], [('anna', Span(start_ms=0, end_ms=60))])
    >>> windows.close(70, [("anna", Span(0, 60))])
    >>> windows.watermark_ms, windows.place("anna", 5)
    (60, [])
    """

    def __init__(
        self,
        assigner: Assigner,
        lateness_ms: int,
        opened: Iterable[tuple[str, Span, V]] = (),
        watermark_ms: int | None = None,
    ) -> None:
        self._assigner = assigner
        self._lateness_ms = lateness_ms
        self.watermark_ms = watermark_ms
        """The watermark; None before the first record."""
        self._by_key: dict[str, dict[Span, V]] = {}
        for key, span, value in opened:
            self._by_key.setdefault(key, {})[span] = value
        self._ends = [(span.end_ms, span.start_ms, key) for key, spans in self._by_key.items() for span in spans]
        heapify(self._ends)

    def place(self, key: str, at_ms: int) -> list[Placement]:
        """Return the windows that a record belongs to; none if all of them are passed: the record is late."""
        placements = self._assigner.place(at_ms, self._by_key.get(key, ()))
        if self.watermark_ms is None or at_ms >= self.watermark_ms:
            return placements
        return [placement for placement in placements if placement.span.end_ms > self.watermark_ms]

    def get(self, key: str, span: Span) -> V:
        """Return the value of an open window."""
        return self._by_key[key][span]

    def put(self, key: str, placement: Placement, value: V) -> None:
        """Set the value of a window, in place of those that it was merged from."""
        span, merged = placement
        spans = self._by_key.setdefault(key, {})
        for other in merged:
            del spans[other]
        spans[span] = value
        if merged != (span,):
            heappush(self._ends, (span.end_ms, span.start_ms, key))

    def watermark_at(self, at_ms: int) -> int:
        """Return the watermark as it is after a time."""
        after = at_ms - self._lateness_ms
        return after if self.watermark_ms is None else max(self.watermark_ms, after)

    def due(self, at_ms: int) -> list[tuple[str, Span]]:
        """Return the windows that a time passes, by their end, start and key; it changes nothing yet."""
        watermark_ms, ends = self.watermark_at(at_ms), self._ends
        due: list[tuple[int, int, str]] = []
        while ends and ends[0][0] <= watermark_ms:
            end = heappop(ends)
            if Span(end[1], end[0]) in self._by_key.get(end[2], ()) and end not in due[-1:]:
                due.append(end)
        for end in due:
            heappush(ends, end)
        return [(key, Span(start_ms, end_ms)) for end_ms, start_ms, key in due]

    def close(self, at_ms: int, due: Iterable[tuple[str, Span]]) -> None:
        """Raise the watermark to that of a time, and remove the windows that it passes."""
        self.watermark_ms = self.watermark_at(at_ms)
        for key, span in due:
            spans = self._by_key[key]
            del spans[span]
            if not spans:
                del self._by_key[key]
