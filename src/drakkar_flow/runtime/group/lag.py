"""Lag: how many records the brokers hold beyond what a group has finished, partition by partition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow.model.record import TopicPartition
from drakkar_flow.runtime.group.buffers import Partition

__all__ = ["Lag"]

_LOOK_S = 1.0  # between two looks
_ASK_S = 0.5  # how long one question to the brokers may hold up the reader
_ASKED_AT_ONCE = 20  # partitions whose end is asked for in one look


class Lag:
    """Knows where each assigned partition begins for its group and where it ends.

    `look` is called on the reader's thread, for librdkafka answers other threads only between
    polls, under load for ever. `by_partition` may be called from any thread.
    """

    def __init__(self, *, from_end: bool) -> None:
        self._from_end = from_end
        self._looked_at = 0.0
        self._asked = 0
        self._starts: dict[TopicPartition, int] = {}  # replaced as wholes, so that other threads may read them
        self._ends: dict[TopicPartition, int] = {}

    def due(self, now: float) -> bool:
        """Whether it is time to look again."""
        return now - self._looked_at >= _LOOK_S

    def look(self, consumer: Consumer, partitions: list[Partition], now: float, *, up: bool) -> None:
        """Note the ends librdkafka knows of, and ask for what it does not know when the brokers are up.

        The end is that of what can be read: records of open transactions don't count. A paused partition is not
        fetched, so the end known of it stands still.
        """
        self._looked_at = now
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
        """An assignment begins or ends: what is known of an earlier one is void."""
        gone = set(topic_partitions)
        self._starts = {
            topic_partition: start for topic_partition, start in self._starts.items() if topic_partition not in gone
        }
        self._ends = {
            topic_partition: end for topic_partition, end in self._ends.items() if topic_partition not in gone
        }

    def by_partition(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The records beyond `positions`, and beyond the start where there is none yet (or 0)."""
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
    """The next `count` of `topic_partitions`, all of them in the course of several calls.

    >>> _turn([("a", 0), ("a", 1), ("a", 2)], 4, 2)
    [('a', 1), ('a', 2)]
    """
    if not topic_partitions:
        return []
    start %= len(topic_partitions)
    return (topic_partitions[start:] + topic_partitions[:start])[:count]


def _watermarks(consumer: Consumer, topic_partition: TopicPartition, timeout_s: float | None = None) -> tuple[int, int]:
    """The low and the high watermark, (-1, -1) when they are not known; asked of the broker with a timeout only."""
    partition = KafkaPartition(*topic_partition)
    try:
        if timeout_s is None:
            found = consumer.get_watermark_offsets(partition, cached=True)
        else:
            found = consumer.get_watermark_offsets(partition, timeout=timeout_s)
    except (KafkaException, RuntimeError):  # not fetched yet, out of reach, or closed meanwhile
        found = None
    return found or (-1, -1)
