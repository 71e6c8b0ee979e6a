"""Durable positions: the way of a watermark from the row that holds it to the commit, and back at a restart."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.kernel.partition_row import PartitionRow
from drakkar_flow.kernel.recovery_start import Start
from drakkar_flow.kernel.slots import slot_of
from drakkar_flow.model.record import TopicPartition, Watermark
from drakkar_flow.runtime.across.shards import Shards
from drakkar_flow.runtime.reader import Reader

__all__ = ["DurablePositions", "Position"]


class Position(NamedTuple):
    """Position of an assignment in a row: first unfinished offset, and the finished offsets beyond it."""

    epoch: int
    offset: int
    finished: OffsetRanges


class DurablePositions:
    """Commits what rows say once they are on disk. Thread-safe.

    A row is on disk everywhere when Bytewax polls the source again after it was taken: it polls no source in an epoch
    before every step has closed the epochs before it, and their rows are written. So Kafka's offset is never ahead of
    the store.

    Args:
        slots: the slots of this process; each takes its rows with `load` before a record is read.
        shards: its shards, which take theirs before, too.
    """

    def __init__(self, slots: Iterable[str], shards: Shards | None = None) -> None:
        self.slots = tuple(slots)
        self._missing = len(self.slots)
        self.exchanges = shards is not None
        """True if records finish far out of order, because others do in other processes; rows hold all ranges."""
        if shards is not None:
            self._missing += len(shards.own)
            shards.on_loaded = self._loaded
        self._lock = threading.Lock()
        self._starts: dict[TopicPartition, Start] = {}
        self._complete = threading.Event()
        self._stored: dict[TopicPartition, int] = {}  # starts that a row on disk holds
        self._taken: dict[TopicPartition, Position] = {}  # in rows that are not known to be on disk
        self._durable: dict[TopicPartition, Position] = {}

    # --- the start ------------------------------------------------------------------------------

    def begin(self, starts: Mapping[TopicPartition, Start]) -> None:
        """Set the start of each partition; call it before the dataflow runs. Those of other processes are left out."""
        self._starts = {at: start for at, start in starts.items() if self.owns(at)}

    def owns(self, at: TopicPartition) -> bool:
        """Return True if this process reads a partition."""
        return slot_of(at) in self.slots

    def load(self, slot: str, rows: Mapping[TopicPartition, PartitionRow]) -> dict[TopicPartition, PartitionRow]:
        """Return the rows with which a slot begins, given those that Bytewax has of it.

        Every partition that is read has one. Rows of topics that are not read now are kept.
        """
        begun = dict(rows)
        for at, start in self._starts.items():
            if slot_of(at) == slot:
                row = rows.get(at)
                kept = row if row is not None and start.keeps_state else PartitionRow(-1, OffsetRanges(), {})
                if row is not None and row.offset == start.offset:
                    self._stored[at] = start.offset
                begun[at] = PartitionRow(start.offset, OffsetRanges(start.finished), kept.state, kept.shares)
        self._loaded()
        return begun

    def _loaded(self) -> None:
        with self._lock:
            self._missing -= 1
            if not self._missing:
                self._complete.set()

    def starts(self, timeout_s: float) -> dict[TopicPartition, Start] | None:
        """Return the starts once all slots and shards have their rows; None if that takes longer."""
        return self._starts if self._complete.wait(timeout_s) else None

    def stored(self, at: TopicPartition) -> int:
        """Return the start of a partition if it is on disk, so that a commit that is behind may follow; else 0."""
        return self._stored.get(at, 0)

    # --- while the flow runs --------------------------------------------------------------------

    def taken(self, positions: Mapping[TopicPartition, Position]) -> None:
        """Note the positions of a row that Bytewax writes now."""
        with self._lock:
            self._taken.update(positions)

    def durable(self, reader: Reader) -> None:
        """Commit the positions of all rows taken so far: they are on disk."""
        if not self._taken:
            return
        with self._lock:
            taken, self._taken = self._taken, {}
            self._durable.update(taken)
        reader.commit(
            [Watermark(topic_partition, at.epoch, at.offset) for topic_partition, at in taken.items() if at.offset > 0]
        )
        reader.out_of_order_ranges(
            {(topic_partition, at.epoch): len(at.finished) for topic_partition, at in taken.items()}
        )

    def out_of_order(self, topic_partition: TopicPartition, epoch: int) -> OffsetRanges:
        """Return the finished offset ranges beyond the durable position of an assignment."""
        with self._lock:
            at = self._durable.get(topic_partition)
            return OffsetRanges(at.finished) if at is not None and at.epoch == epoch else OffsetRanges()
