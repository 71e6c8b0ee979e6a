"""The partitions that assignment hooks are told of."""

from __future__ import annotations

from typing import Self

from drakkar_flow.model.record import Lane

__all__ = ["AssignedPartition"]


class AssignedPartition(int):
    """A partition's number that knows its topic.

    For a handler of one topic it is the number; one that reads several topics keeps what belongs to
    a partition under `lane`, because partitions of the same number are equal whatever their topic.

    >>> partition = AssignedPartition("orders", 3)
    >>> partition == 3, partition.topic, partition.lane
    (True, 'orders', ('orders', 3))
    """

    topic: str

    def __new__(cls, topic: str, number: int) -> Self:
        """Make it of a lane's two parts."""
        self = super().__new__(cls, number)
        self.topic = topic
        return self

    @property
    def lane(self) -> Lane:
        """The (topic, partition) it stands for."""
        return (self.topic, int(self))
