"""Commit step, the end of the dataflow: acknowledgements become watermarks, watermarks become commits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from bytewax.outputs import DynamicSink, StatelessSinkPartition

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.kernel.partition_row import PartitionRow, StateKey, StateTables
from drakkar_flow.model.outcome import Ack
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.records import RecordsFinished
from drakkar_flow.runtime.acknowledgement.finished_shares import FinishedShares
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.acknowledgement.tracker import SettleResult, Tracker
from drakkar_flow.runtime.chunk import Keyed
from drakkar_flow.runtime.reader import Reader
from drakkar_flow.runtime.state.gate import StateGate
from drakkar_flow.runtime.state.ledgers import Ledgers

__all__ = ["CommitSink", "Finisher", "StateChanges", "Track", "commit_by"]


class StateChanges(NamedTuple):
    """Position of an assignment and its changes of state at one instant.

    The position is -1 as long as no record has finished in order. `values` has the final values that changed since the
    last time, None for removed ones.
    """

    offset: int
    finished: OffsetRanges
    values: dict[StateKey, bytes | None]


class Track:
    """Tracker of one process, shared by the engine's workers and the reader's thread. Thread-safe.

    - `ledgers`: the keyed state of the flow; None if it keeps none. With `records_changes` they note which final values
      change, for `take_changes`.
    - `shares`: the finished shares of divided records that are sent across partitions; None in other flows.
    """

    def __init__(self, *, records_changes: bool = False) -> None:
        self.ledgers: Ledgers | None = None
        self.shares: FinishedShares | None = None
        self._records_changes = records_changes
        self._tracker = Tracker()
        self._lock = threading.Lock()

    def keep_state(self) -> Ledgers:
        """Make the ledgers of a flow with state, before its first record: a record finishes with its changes."""
        if self.ledgers is None:
            self.ledgers = Ledgers(records_changes=self._records_changes)
            self._tracker = Tracker(StateGate(self.ledgers))
        return self.ledgers

    def keep_shares(self) -> FinishedShares:
        """Make the account of finished shares, before the first record."""
        if self.shares is None:
            self.shares = FinishedShares()
        return self.shares

    def step(self, batch: list[Keyed]) -> list[SettleResult]:
        """Add acknowledgements to the tracker: the batch function of the `track` step."""
        acks = [ack for _, chunk in batch for ack in chunk.acks]
        return self.settle(acks) if acks else []

    def settle(self, acks: list[Ack]) -> list[SettleResult]:
        """Add acknowledgements to the tracker."""
        with self._lock:
            if self.shares is not None:
                self.shares.add(acks)
            return [self._tracker.settle(acks)]

    def out_of_order(self, topic_partition: TopicPartition, epoch: int) -> OffsetRanges:
        """Return the offset ranges that an assignment has finished above its watermark."""
        with self._lock:
            return self._tracker.out_of_order(topic_partition, epoch)

    def load(self, topic_partition: TopicPartition, row: PartitionRow) -> None:
        """Begin with the state in a stored row, before the first record; without effect in a flow without state."""
        if self.ledgers is not None:
            self.ledgers.load(topic_partition, row.state)
        if self.shares is not None:
            self.shares.load(topic_partition, row.shares)

    def row(self, topic_partition: TopicPartition, epoch: int) -> PartitionRow | None:
        """Return position and state of an assignment at one instant; None if it may not be committed (any more).

        The position is -1 as long as no record has finished in order.
        """
        with self._lock:
            if not self._tracker.is_open(topic_partition, epoch):
                return None
            position = self._tracker.position(topic_partition)
            state = self.ledgers.final(topic_partition) if self.ledgers is not None else StateTables()
            finished = self._tracker.out_of_order(topic_partition, epoch)
            shares = self.shares.of(topic_partition, position, finished) if self.shares is not None else {}
            return PartitionRow(-1 if position is None else position, finished, state, shares)

    def take_changes(self, topic_partition: TopicPartition, epoch: int) -> StateChanges | None:
        """Return position and changes of an assignment at one instant; None if it may not be committed any more.

        Changes that were taken and not stored must be put back.
        """
        with self._lock:
            if self._tracker.is_ended(topic_partition, epoch):
                return None
            values = self.ledgers.take_changes(topic_partition, epoch) if self.ledgers is not None else {}
            if not self._tracker.is_open(topic_partition, epoch):  # no record has finished
                return StateChanges(-1, OffsetRanges(), values)
            position = self._tracker.position(topic_partition)
            finished = self._tracker.out_of_order(topic_partition, epoch)
            return StateChanges(-1 if position is None else position, finished, values)

    def put_back(self, topic_partition: TopicPartition, epoch: int, keys: Iterable[StateKey]) -> None:
        """Count final values as changed again."""
        if self.ledgers is not None:
            self.ledgers.put_back(topic_partition, epoch, keys)


class Finisher:
    """Releases finished records, after `commit` has noted their watermarks."""

    def __init__(self, in_flight: InFlight, bus: Bus, commit: Callable[[SettleResult], None]) -> None:
        self._in_flight = in_flight
        self._bus = bus
        self._commit = commit

    def finish(self, settled: SettleResult) -> None:
        """Note watermarks, then release the records: a thread that waits until none is in flight commits them."""
        self._commit(settled)
        for topic_partition, epoch, offset in settled.watermarks:
            self._in_flight.advance((topic_partition, epoch), offset)
        for (topic_partition, epoch), (count, size) in settled.finished.items():
            self._in_flight.release((topic_partition, epoch), count, size)
        if settled.finished:
            latency_s = time.monotonic() - settled.oldest_read_at
            assignments = tuple([(at, epoch, count) for (at, epoch), (count, _) in settled.finished.items()])
            self._bus.emit(
                RecordsFinished(
                    settled.done, settled.skipped, settled.dead, latency_s, tuple(settled.watermarks), assignments
                )
            )


def commit_by(reader: Reader) -> Callable[[SettleResult], None]:
    """Return the function that gives watermarks to a reader at once: group mode, where Kafka has the positions."""

    def commit(settled: SettleResult) -> None:
        if settled.watermarks:
            reader.commit(settled.watermarks)
        if settled.out_of_order_ranges:
            reader.out_of_order_ranges(settled.out_of_order_ranges)

    return commit


class CommitSink(DynamicSink[SettleResult]):
    """The only Bytewax output of group mode: notes watermarks for the commit, then releases their records in flight.

    `ended` is called once, after the dataflow has ended on every Bytewax worker of this process and all earlier
    watermarks were noted.
    """

    def __init__(self, finisher: Finisher, ended: Callable[[], None]) -> None:
        self._finisher = finisher
        self._ended = ended
        self._lock = threading.Lock()
        self._open = 0

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Committer:
        """Make the output of a Bytewax worker."""
        with self._lock:
            self._open += 1
        return _Committer(self._finisher, self._closed)

    def _closed(self) -> None:
        with self._lock:
            self._open -= 1
            last = self._open == 0
        if last:
            self._ended()


class _Committer(StatelessSinkPartition[SettleResult]):
    def __init__(self, finisher: Finisher, closed: Callable[[], None]) -> None:
        self._finisher = finisher
        self._closed = closed

    def write_batch(self, items: list[SettleResult]) -> None:
        for settled in items:
            self._finisher.finish(settled)

    def close(self) -> None:
        self._closed()
