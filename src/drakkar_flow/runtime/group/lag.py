"""Lag: how many records the brokers hold beyond what a group has finished, partition by partition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition

from drakkar_flow.model.record import Lane
from drakkar_flow.runtime.group.buffers import Partition

__all__ = ["Lag"]

_LOOK_S = 1.0  # between two looks
_ASK_S = 0.5  # how long one question to the brokers may hold up the reader
_ASKED_AT_ONCE = 20  # partitions whose end is asked for in one look


class Lag:
    """Knows where each assigned partition begins for its group and where it ends.

    `look` is called on the reader's thread, for librdkafka answers other threads only between
    polls, under load for ever. `by_lane` may be called from any thread.
    """

    def __init__(self, *, from_end: bool) -> None:
        self._from_end = from_end
        self._looked_at = 0.0
        self._asked = 0
        self._starts: dict[Lane, int] = {}  # replaced as wholes, so that other threads may read them
        self._ends: dict[Lane, int] = {}

    def due(self, now: float) -> bool:
        """Whether it is time to look again."""
        return now - self._looked_at >= _LOOK_S

    def look(self, consumer: Consumer, partitions: list[Partition], now: float, *, up: bool) -> None:
        """Note the ends librdkafka knows of, and ask for what it does not know when the brokers are up.

        The end is that of what can be read: records of open transactions don't count. A paused partition is not
        fetched, so the end known of it stands still.
        """
        self._looked_at = now
        cached = {partition.lane: _watermarks(consumer, partition.lane) for partition in partitions}
        readable = {partition.lane: partition.end for partition in partitions if partition.at_end}
        ends = {lane: readable.get(lane, end) for lane, (_, end) in cached.items() if end >= 0}
        starts = {lane: start for lane, start in self._starts.items() if lane in cached}
        if up:
            paused = [partition.lane for partition in partitions if partition.paused]
            for lane in _turn(paused, self._asked, _ASKED_AT_ONCE):
                ends[lane] = max(_watermarks(consumer, lane, _ASK_S)[1], ends.get(lane, -1))
            self._asked += _ASKED_AT_ONCE
        for partition in partitions:
            lane = partition.lane
            if partition.base >= 0:
                starts[lane] = partition.base
            elif lane in ends and lane not in starts:
                starts[lane] = ends[lane] if self._from_end else max(0, cached[lane][0])
        kept = {lane: end for lane, end in self._ends.items() if lane in cached}
        grown = {lane: max(end, kept.get(lane, 0)) for lane, end in ends.items()}
        self._ends = {**kept, **grown, **readable}
        self._starts = starts

    def forget(self, lanes: Iterable[Lane]) -> None:
        """An assignment begins or ends: what is known of an earlier one is void."""
        gone = set(lanes)
        self._starts = {lane: start for lane, start in self._starts.items() if lane not in gone}
        self._ends = {lane: end for lane, end in self._ends.items() if lane not in gone}

    def by_lane(self, positions: Mapping[Lane, int]) -> dict[Lane, int]:
        """The records beyond `positions`, and beyond the start where there is none yet (or 0)."""
        starts = {**self._starts, **{lane: position for lane, position in positions.items() if position}}
        return {lane: max(0, end - starts[lane]) for lane, end in self._ends.items() if lane in starts}


def _turn(lanes: list[Lane], start: int, count: int) -> list[Lane]:
    """The next `count` of `lanes`, all of them in the course of several calls.

    >>> _turn([("a", 0), ("a", 1), ("a", 2)], 4, 2)
    [('a', 1), ('a', 2)]
    """
    if not lanes:
        return []
    start %= len(lanes)
    return (lanes[start:] + lanes[:start])[:count]


def _watermarks(consumer: Consumer, lane: Lane, timeout_s: float | None = None) -> tuple[int, int]:
    """The low and the high watermark, (-1, -1) when they are not known; asked of the broker with a timeout only."""
    partition = TopicPartition(*lane)
    try:
        if timeout_s is None:
            found = consumer.get_watermark_offsets(partition, cached=True)
        else:
            found = consumer.get_watermark_offsets(partition, timeout=timeout_s)
    except (KafkaException, RuntimeError):  # not fetched yet, out of reach, or closed meanwhile
        found = None
    return found or (-1, -1)
