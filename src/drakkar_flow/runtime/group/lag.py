"""Lag: number of records of each partition beyond the finished offsets of the group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow.model.record import TopicPartition
from drakkar_flow.runtime.group.buffers import Partition

__all__ = ["Lag"]

_CHECK_S = 1.0  # between two checks
_ASK_S = 0.5  # the longest time that one request to the brokers may delay the reader
_ASKED_AT_ONCE = 20  # partitions whose end is requested in one check


class Lag:
    """Start for the group and end of each assigned partition.

    `check` is called on the reader's thread: librdkafka answers other threads only between polls, and under load never.
    `by_partition` may be called from any thread.
    """

    def __init__(self, *, from_end: bool) -> None:
        self._from_end = from_end
        self._checked_at = 0.0
        self._asked = 0
        self._starts: dict[TopicPartition, int] = {}  # replaced as wholes, so that other threads may read them
        self._ends: dict[TopicPartition, int] = {}

    def due(self, now: float) -> bool:
        """True if the next check is due."""
        return now - self._checked_at >= _CHECK_S

    def check(self, consumer: Consumer, partitions: list[Partition], now: float, *, up: bool) -> None:
        """Note the ends that librdkafka knows, and ask for the others when the brokers are up.

        The end is that of readable records: records of open transactions don't count. A paused partition is not
        fetched, so its known end does not advance.
        """
        self._checked_at = now
        cached = {
            partition.topic_partition: _watermarks(consumer, partition.topic_partition) for partition in partitions
        }
        readable = {partition.topic_partition: partition.end for partition in partitions if partition.at_end}
        ends = {
            topic_partition: readable.get(topic_partition, end)
            for topic_partition, (_, end) in cached.items()
            if end >= 0
        }
        starts = {
            topic_partition: start for topic_partition, start in self._starts.items() if topic_partition in cached
        }
        if up:
            paused = [partition.topic_partition for partition in partitions if partition.paused]
            for topic_partition in _turn(paused, self._asked, _ASKED_AT_ONCE):
                ends[topic_partition] = max(
                    _watermarks(consumer, topic_partition, _ASK_S)[1], ends.get(topic_partition, -1)
                )
            self._asked += _ASKED_AT_ONCE
        for partition in partitions:
            topic_partition = partition.topic_partition
            if partition.base >= 0:
                starts[topic_partition] = partition.base
            elif topic_partition in ends and topic_partition not in starts:
                starts[topic_partition] = (
                    ends[topic_partition] if self._from_end else max(0, cached[topic_partition][0])
                )
        kept = {topic_partition: end for topic_partition, end in self._ends.items() if topic_partition in cached}
        grown = {topic_partition: max(end, kept.get(topic_partition, 0)) for topic_partition, end in ends.items()}
        self._ends = {**kept, **grown, **readable}
        self._starts = starts

    def forget(self, topic_partitions: Iterable[TopicPartition]) -> None:
        """Forget partitions whose assignment begins or ends."""
        gone = set(topic_partitions)
        self._starts = {
            topic_partition: start for topic_partition, start in self._starts.items() if topic_partition not in gone
        }
        self._ends = {
            topic_partition: end for topic_partition, end in self._ends.items() if topic_partition not in gone
        }

    def by_partition(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Return the records beyond `positions`, or beyond the start where there is no position yet (or 0)."""
        starts = {
            **self._starts,
            **{topic_partition: position for topic_partition, position in positions.items() if position},
        }
        return {
            topic_partition: max(0, end - starts[topic_partition])
            for topic_partition, end in self._ends.items()
            if topic_partition in starts
        }


def _turn(topic_partitions: list[TopicPartition], start: int, count: int) -> list[TopicPartition]:
    """Return the next `count` of `topic_partitions`; repeated calls return all of them.

    >>> _turn([("a", 0), ("a", 1), ("a", 2)], 4, 2)
    [('a', 1), ('a', 2)]
    """
    if not topic_partitions:
        return []
    start %= len(topic_partitions)
    return (topic_partitions[start:] + topic_partitions[:start])[:count]


def _watermarks(consumer: Consumer, topic_partition: TopicPartition, timeout_s: float | None = None) -> tuple[int, int]:
    """Return the low and the high watermark, (-1, -1) if unknown; the broker is asked with a timeout only."""
    partition = KafkaPartition(*topic_partition)
    try:
        if timeout_s is None:
            found = consumer.get_watermark_offsets(partition, cached=True)
        else:
            found = consumer.get_watermark_offsets(partition, timeout=timeout_s)
    except (KafkaException, RuntimeError):  # not fetched yet, out of reach, or closed meanwhile
        found = None
    return found or (-1, -1)
