"""Reader protocol: reads records ahead and commits finished offsets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from drakkar_flow.model.record import Record, TopicPartition, Watermark

__all__ = ["Reader", "ReaderStatistics"]


class ReaderStatistics(NamedTuple):
    """State of a reader, by assigned partition.

    - `queued`: records read ahead.
    - `oldest`: the time at which the oldest of them was read, in monotonic seconds.
    - `lag`: records between the finished offsets of the group and the end.
    - `uncommitted`: finished offsets of all partitions whose commit no broker has accepted.
    - `ranges`: offset ranges that are finished beyond an unfinished record.
    """

    queued: dict[TopicPartition, int]
    lag: dict[TopicPartition, int]
    oldest: Mapping[TopicPartition, float] = {}
    uncommitted: int = 0
    ranges: Mapping[TopicPartition, int] = {}


class Reader(Protocol):
    """Reads records ahead and commits finished offsets; owns its connection and its thread."""

    def start(self) -> None:
        """Begin to read. Returns at once."""
        ...

    def pop(self, limit: int, slot: int, slots: int) -> list[list[Record]]:
        """Return at most `limit` records, one list per partition, and count them as in flight.

        Never blocks. Bytewax worker `slot` of `slots` gets a fixed share of the partitions.
        """
        ...

    @property
    def exhausted(self) -> bool:
        """True if there will never be another record."""
        ...

    @property
    def uncommitted(self) -> int:
        """Number of finished records that can't be committed: they still count as in flight."""
        ...

    def commit(self, watermarks: list[Watermark]) -> None:
        """Note that all records before each watermark are finished; the commit follows soon."""
        ...

    def out_of_order_ranges(self, ranges: Mapping[tuple[TopicPartition, int], int]) -> None:
        """Note the number of offset ranges that assignments have finished beyond their watermark."""
        ...

    def close(self) -> None:
        """Commit noted watermarks synchronously, leave the group and end the thread."""
        ...

    def statistics(self) -> ReaderStatistics:
        """Return the present state."""
        ...
