"""Acknowledgement log: the acknowledgements that a flow returned for each record."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from drakkar_flow.model.outcome import Ack, AckStatus
from drakkar_flow.model.record import FULL_CREDIT, Credit, TopicPartition
from drakkar_flow.runtime.acknowledgement.commit import Track
from drakkar_flow.runtime.acknowledgement.tracker import SettleResult
from drakkar_flow.runtime.chunk import Keyed
from drakkar_flow.testing.log import MemoryLog

__all__ = ["AckLog", "Sent", "WatchedTrack"]

_BADNESS = {status: rank for rank, status in enumerate(AckStatus)}
Position = tuple[TopicPartition, int]
"""A partition and an offset."""


class AckLog:
    """Status of every finished record; after a crash only committed ones remain. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[Position, int], tuple[Credit, AckStatus]] = {}
        self._due: dict[Position, AckStatus] = {}
        self._finished: dict[Position, AckStatus] = {}

    def note(self, acks: Iterable[Ack]) -> None:
        """Add acknowledgements, before the tracker does."""
        with self._lock:
            for ack in acks:
                position = (ack.record.topic_partition, ack.record.offset)
                share = (position, ack.record.epoch)
                credit, worst = self._open.pop(share, (0, AckStatus.DONE))
                credit += ack.credit
                worst = max(worst, ack.status, key=_BADNESS.__getitem__)
                if credit != FULL_CREDIT:
                    self._open[share] = (credit, worst)
                elif worst is not AckStatus.FENCED:  # a fenced record will be read again
                    self._due[position] = worst

    def publish(self) -> None:
        """Publish noted acknowledgements: their commits have been made."""
        with self._lock:
            self._finished.update(self._due)
            self._due.clear()

    def forget_uncommitted(self, log: MemoryLog) -> None:
        """Forget acknowledgements without a commit, after a crash: their records will be read again."""
        with self._lock:
            self._open.clear()
            self._due.clear()
            for topic_partition, offset in [*self._finished]:
                if not log.knows_finished(topic_partition, offset):
                    del self._finished[topic_partition, offset]

    def status(self, topic_partition: TopicPartition, offset: int) -> AckStatus | None:
        """Return the status of a record; None while it is not finished."""
        return self._finished.get((topic_partition, offset))


class WatchedTrack(Track):
    """A tracker whose acknowledgements are logged.

    With state across partitions the rows of shards come with the acknowledgements that they hold, and acknowledgements
    of records that took the way of another process come home here.
    """

    def __init__(self, ack_log: AckLog) -> None:
        super().__init__()
        self._receipts = ack_log
        self.shard_rows: dict[int, bytes] = {}
        """Rows of the shards, at the same instant as those of the partitions."""
        self.come_home: Callable[[list[Ack]], list[Ack]] = list

    def step(self, batch: list[Keyed]) -> list[SettleResult]:
        """Log acknowledgements, then settle them as every tracker does."""
        for _, chunk in batch:
            self.shard_rows.update(chunk.items)
            chunk.acks = self.come_home(chunk.acks)
        self._receipts.note(ack for _, chunk in batch for ack in chunk.acks)
        return super().step(batch)


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that a test has sent: its place, and its status."""

    topic: str
    partition: int
    offset: int
    _receipts: AckLog = field(repr=False, compare=False)

    @property
    def topic_partition(self) -> TopicPartition:
        """Topic partition of the message."""
        return (self.topic, self.partition)

    @property
    def label(self) -> str:
        """Name in logs and errors: topic:partition:offset."""
        return f"{self.topic}:{self.partition}:{self.offset}"

    @property
    def status(self) -> AckStatus | None:
        """`done`, `skipped` or `dead` (by the worst of its branches); None while work on it is open."""
        return self._receipts.status(self.topic_partition, self.offset)

    @property
    def acknowledged(self) -> bool:
        """True if every branch is finished: delivered, skipped on purpose, or a dead letter."""
        return self.status is not None
