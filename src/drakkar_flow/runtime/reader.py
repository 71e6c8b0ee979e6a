"""Reader protocol: reads records ahead and commits what is finished."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from drakkar_flow.model.record import Record, TopicPartition, Watermark

__all__ = ["Reader", "ReaderStatistics"]


class ReaderStatistics(NamedTuple):
    """What a reader holds, by assigned partition.

    `queued` are records read ahead and `oldest` when the oldest of them was read, in monotonic
    seconds; `lag` counts the records between what the group has finished and the end. `uncommitted`
    offsets of all partitions are finished, but no broker has accepted their commit. `ranges` counts the
    stretches of finished records behind an unfinished one.
    """

    queued: dict[TopicPartition, int]
    lag: dict[TopicPartition, int]
    oldest: Mapping[TopicPartition, float] = {}
    uncommitted: int = 0
    ranges: Mapping[TopicPartition, int] = {}


class Reader(Protocol):
    """Reads records ahead and commits what is finished; owns its connection and its thread."""

    def start(self) -> None:
        """Begin to read. Returns at once."""
        ...

    def pop(self, limit: int, slot: int, slots: int) -> list[list[Record]]:
        """Give at most `limit` records, one list per partition, and count them into the flight.

        Never blocks. Slot `slot` of `slots` gets a fixed share of the partitions.
        """
        ...

    @property
    def exhausted(self) -> bool:
        """Whether there will never be another record."""
        ...

    @property
    def uncommitted(self) -> int:
        """How many finished records can't be committed: they still count against the flight's bound."""
        ...

    def commit(self, watermarks: list[Watermark]) -> None:
        """Note that everything before each watermark is finished; the commit follows soon."""
        ...

    def out_of_order_ranges(self, ranges: Mapping[tuple[TopicPartition, int], int]) -> None:
        """Note in how many spans assignments have finished records beyond their watermark now."""
        ...

    def close(self) -> None:
        """Commit what was noted, synchronously, leave the group and end the thread."""
        ...

    def statistics(self) -> ReaderStatistics:
        """What the reader holds now."""
        ...
