"""Membership: how a reader gets its partitions, by the group's coordinator or by the recovery store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.kernel.recovery_start import Start
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.runtime.recovery.brokers import topics_matching
from drakkar_flow.runtime.recovery.positions import DurablePositions

__all__ = ["FixedAssignment", "GroupMembership", "Membership"]

OnPartitions = Callable[[Consumer, list[KafkaPartition]], Any]

_ASK_S = 5.0  # the longest request for the partitions of the topics
_WAIT_S = 0.2  # between two looks at the end while the store is read

Known = dict[TopicPartition, tuple[int, OffsetRanges]]


class Membership(Protocol):
    """Gives partitions to a consumer. Used by the reader's thread alone."""

    keeps_partitions: bool
    """True if a consumer that replaces another goes on with its partitions, because no other process can have them."""

    def join(self, consumer: Consumer, on_assign: OnPartitions, on_revoke: OnPartitions, on_lost: OnPartitions) -> None:
        """Ask for partitions; each callback gets those that come or leave."""
        ...

    def known(self, topic_partitions: Iterable[TopicPartition]) -> Known:
        """Return the positions of partitions, and the offsets finished beyond them, where they come from the store."""
        ...

    def check(self, consumer: Consumer, now: float) -> None:
        """Look for partitions that were added."""
        ...

    def leave(self, consumer: Consumer) -> None:
        """Give all partitions back."""
        ...


class GroupMembership:
    """Partitions of an elastic consumer group: its coordinator assigns and revokes them."""

    keeps_partitions = False

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics = list(topics)

    def join(self, consumer: Consumer, on_assign: OnPartitions, on_revoke: OnPartitions, on_lost: OnPartitions) -> None:
        """Subscribe to the topics."""
        consumer.subscribe(self._topics, on_assign=on_assign, on_revoke=on_revoke, on_lost=on_lost)

    def known(self, topic_partitions: Iterable[TopicPartition]) -> Known:
        """Return nothing: the group's commits are the positions."""
        return {}

    def check(self, consumer: Consumer, now: float) -> None:
        """Do nothing: the coordinator assigns new partitions."""

    def leave(self, consumer: Consumer) -> None:
        """Do nothing: the consumer leaves the group when it closes."""


class FixedAssignment:
    """This process's partitions of the topics, from the positions of the recovery store.

    Args:
        topics: names, and patterns that begin with `^`.
        positions: has the starts of the partitions once the store was read, and which are of this process.
        closing: set when the reader ends.
        refresh_s: seconds between two looks for new partitions.
        read_offset: the last offset that was read of a partition; negative if none was.
    """

    keeps_partitions = True

    def __init__(
        self,
        topics: Iterable[str],
        positions: DurablePositions,
        closing: threading.Event,
        refresh_s: float,
        read_offset: Callable[[TopicPartition], int],
    ) -> None:
        self._read_offset = read_offset
        self._topics = tuple(topics)
        self._positions = positions
        self._closing = closing
        self._refresh_s = refresh_s
        self._looked_at = 0.0
        self._starts: dict[TopicPartition, Start] = {}
        self._assigned: list[KafkaPartition] = []
        self._on_assign: OnPartitions = lambda _consumer, _partitions: None
        self._on_revoke: OnPartitions = self._on_assign

    def join(self, consumer: Consumer, on_assign: OnPartitions, on_revoke: OnPartitions, on_lost: OnPartitions) -> None:
        """Assign the partitions, when the store has been read; a later consumer goes on where the one before ended."""
        self._on_assign, self._on_revoke = on_assign, on_revoke
        if self._assigned:
            self._assigned = [self._at(each.topic, each.partition) for each in self._assigned]
            consumer.assign(self._assigned)
            return
        while not self._closing.is_set():
            starts = self._positions.starts(_WAIT_S)
            if starts is not None:
                self._starts = starts
                self._take(consumer)
                return

    def known(self, topic_partitions: Iterable[TopicPartition]) -> Known:
        """Return the starts."""
        found = {each: self._starts.get(each) for each in topic_partitions}
        return {at: (each.offset, OffsetRanges(each.finished)) for at, each in found.items() if each is not None}

    def check(self, consumer: Consumer, now: float) -> None:
        """Assign partitions that were added."""
        if now - self._looked_at >= self._refresh_s:
            self._looked_at = now
            self._take(consumer)

    def leave(self, consumer: Consumer) -> None:
        """Give all partitions back, as at a revoke."""
        if self._assigned:
            assigned, self._assigned = self._assigned, []
            self._on_revoke(consumer, assigned)
            consumer.unassign()

    def _take(self, consumer: Consumer) -> None:
        present = {(each.topic, each.partition) for each in self._assigned}
        try:
            found = self._partitions(consumer)
        except KafkaException:
            return  # the brokers don't answer; the next look follows
        new = [each for each in found if each not in present]
        if new:
            added = [self._at(*each) for each in new]
            self._assigned += added
            consumer.incremental_assign(added)
            self._on_assign(consumer, added)

    def _at(self, topic: str, partition: int) -> KafkaPartition:
        read, start = self._read_offset((topic, partition)), self._starts.get((topic, partition))
        if read >= 0:
            return KafkaPartition(topic, partition, read + 1)
        # A partition that was added later is read whole.
        return KafkaPartition(topic, partition, OFFSET_BEGINNING if start is None else start.offset)

    def _partitions(self, consumer: Consumer) -> list[TopicPartition]:
        topics = consumer.list_topics(timeout=_ASK_S).topics
        named = [(name, number) for name in topics_matching(self._topics, topics) for number in topics[name].partitions]
        return [at for at in named if self._positions.owns(at)]
