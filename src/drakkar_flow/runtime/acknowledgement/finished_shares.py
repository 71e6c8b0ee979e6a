"""Finished shares of divided records: a record that is read again must not change state with them once more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.model.outcome import Ack
from drakkar_flow.model.record import FULL_CREDIT, TopicPartition

__all__ = ["FinishedShares"]


class FinishedShares:
    """Numbers of the finished shares of unfinished records, by partition and offset.

    The shares of one record change the state of several shards, each when that share is finished. So the row of the
    partition names them until the whole record is finished.

    >>> shares = FinishedShares()
    >>> shares.load(("in", 0), {7: [0, 2], 9: [1]})
    >>> shares.of(("in", 0), 8, OffsetRanges())
    {9: {1}}
    """

    def __init__(self) -> None:
        self._numbers: dict[TopicPartition, dict[int, set[int]]] = {}

    def load(self, topic_partition: TopicPartition, shares: Mapping[int, Collection[int]]) -> None:
        """Begin with those of a stored row."""
        self._numbers[topic_partition] = {offset: set(numbers) for offset, numbers in shares.items()}

    def known(self, topic_partition: TopicPartition) -> Mapping[int, set[int]]:
        """Return the numbers by offset."""
        return self._numbers.get(topic_partition, {})

    def add(self, acks: Iterable[Ack]) -> None:
        """Note the shares among acknowledgements; those of whole records, and of shares that were not sent, pass."""
        for ack in acks:
            record = ack.record
            if ack.credit != FULL_CREDIT and record.shard >= 0:
                numbers = self._numbers.setdefault(record.topic_partition, {})
                numbers.setdefault(record.offset, set()).add(record.share)

    def of(self, topic_partition: TopicPartition, position: int | None, finished: OffsetRanges) -> dict[int, set[int]]:
        """Return those of records that are not finished, and forget the others."""
        numbers = self._numbers.get(topic_partition)
        if not numbers:
            return {}
        for offset in [each for each in numbers if each < (position or 0) or each in finished]:
            del numbers[offset]
        return {offset: set(of) for offset, of in numbers.items()}
