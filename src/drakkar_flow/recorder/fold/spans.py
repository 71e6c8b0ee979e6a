"""Spans: the offsets of a topic partition that were read, and the watermark that passed them. Pure.

Each record read lies in the span of its assignment and time; it was finished when a span has a watermark above it.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from drakkar_flow.model.record import TopicPartition

__all__ = ["SpanFolder", "SpanRow"]

_MAX_ROWS = 250  # of one call of `take`: 1,000 a second


class SpanRow(NamedTuple):
    """Offsets `first` to `last` were read from `read_from_us` to `read_to_us`; -1 without a read.

    The watermark was `passed` at `passed_us`, -1 if it did not move; `finished` records ended, with any status.
    """

    topic_partition: TopicPartition
    epoch: int
    first: int
    last: int
    n: int
    size: int
    read_from_us: int
    read_to_us: int
    passed: int
    passed_us: int
    finished: int


class _Span(msgspec.Struct, gc=False):
    first: int = -1
    last: int = -1
    n: int = 0
    size: int = 0
    read_from_us: int = -1
    read_to_us: int = -1
    passed: int = -1
    passed_us: int = -1
    finished: int = 0


class SpanFolder:
    """Adds up reads and watermarks by assignment until `take`.

    >>> spans = SpanFolder()
    >>> spans.read(("in", 0), 1, 10, 14, 5, 50, us=100)
    >>> spans.read(("in", 0), 1, 15, 19, 5, 50, us=200)
    >>> spans.passed(("in", 0), 1, 12, us=300)
    >>> [(row.first, row.last, row.n, row.read_to_us, row.passed) for row in spans.take()]
    [(10, 19, 10, 200, 12)]
    """

    def __init__(self) -> None:
        self._open: dict[tuple[TopicPartition, int], _Span] = {}
        self._closed: list[SpanRow] = []

    def read(
        self, topic_partition: TopicPartition, epoch: int, first: int, last: int, count: int, size: int, us: int
    ) -> None:
        """Add records that were read."""
        span = self._span(topic_partition, epoch)
        if span.last >= first:  # read again: a span has ascending offsets
            self._closed.append(_row(topic_partition, epoch, span))
            span = self._open[topic_partition, epoch] = _Span()
        if span.first < 0:
            span.first, span.read_from_us = first, us
        span.last, span.read_to_us = last, max(us, span.read_to_us)
        span.n += count
        span.size += size

    def passed(self, topic_partition: TopicPartition, epoch: int, offset: int, us: int) -> None:
        """Add a watermark."""
        span = self._span(topic_partition, epoch)
        if offset > span.passed:
            span.passed, span.passed_us = offset, us

    def finished(self, topic_partition: TopicPartition, epoch: int, count: int) -> None:
        """Add finished records."""
        self._span(topic_partition, epoch).finished += count

    def take(self, limit: int | None = _MAX_ROWS) -> list[SpanRow]:
        """Return the oldest `limit` rows; the others grow until the next call, so none is lost. None returns all."""
        taken = list(self._open)[:limit]
        rows = [*self._closed, *(_row(*place, self._open.pop(place)) for place in taken)]
        self._closed = []
        return rows

    def _span(self, topic_partition: TopicPartition, epoch: int) -> _Span:
        place = (topic_partition, epoch)
        span = self._open.get(place)
        if span is None:
            span = self._open[place] = _Span()
        return span


def _row(topic_partition: TopicPartition, epoch: int, span: _Span) -> SpanRow:
    return SpanRow(topic_partition, epoch, *msgspec.structs.astuple(span))
