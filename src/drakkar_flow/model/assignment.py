"""Partitions as assignment hooks get them."""

from __future__ import annotations

from typing import Self

from drakkar_flow.model.record import TopicPartition

__all__ = ["AssignedPartition"]


class AssignedPartition(int):
    """A partition's number with its topic.

    For a handler of one topic it is the number. A handler of several topics keeps data of a partition
    under `topic_partition`, because partitions of the same number are equal whatever their topic.

    >>> partition = AssignedPartition("orders", 3)
    >>> partition == 3, partition.topic, partition.topic_partition
    (True, 'orders', ('orders', 3))
    """

    topic: str

    def __new__(cls, topic: str, number: int) -> Self:
        """Create it from topic and partition."""
        self = super().__new__(cls, number)
        self.topic = topic
        return self

    @property
    def topic_partition(self) -> TopicPartition:
        """The (topic, partition)."""
        return (self.topic, int(self))
