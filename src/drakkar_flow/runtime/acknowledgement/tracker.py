"""Tracker: decides from acknowledgements alone which offset of a partition may be committed.

Each record names the offset that was delivered before it, so the records of one assignment form a chain. A record is
finished when all its credit came back. The watermark moves along the chain as far as every record is finished. Nothing
is assumed about the distance between offsets.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import NamedTuple

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.model.outcome import Ack, AckStatus
from drakkar_flow.model.record import FULL_CREDIT, Credit, Record, TopicPartition, Watermark
from drakkar_flow.runtime.acknowledgement.credit import InvariantError
from drakkar_flow.runtime.state.gate import StateGate

__all__ = ["SettleResult", "Tracker", "TrackerStatistics"]

_REMEMBERED_EPOCHS = 4
"""Epochs kept to recognise duplicate acknowledgements."""

_BADNESS = {AckStatus.DONE: 0, AckStatus.SKIPPED: 1, AckStatus.DEAD: 2, AckStatus.FENCED: 3}


class SettleResult(NamedTuple):
    """Changes that a batch of acknowledgements made.

    - `watermarks`: the partitions that advanced, each once.
    - The counts are of the records that finished, by the worst status of their branches. `fenced` ones belong to
      revoked partitions and move no watermark.
    - `finished`: records and bytes by assignment, older epochs included; they no longer occupy memory.
    - `out_of_order_ranges`: the open assignments in which records finished beyond the watermark or were reached by it,
      with the number of offset ranges beyond it now.
    - `oldest_read_at`: the time at which the oldest of the finished records was read.
    """

    watermarks: list[Watermark]
    done: int
    skipped: int
    dead: int
    fenced: int
    finished: dict[tuple[TopicPartition, int], tuple[int, int]]
    out_of_order_ranges: dict[tuple[TopicPartition, int], int]
    oldest_read_at: float


class TrackerStatistics(NamedTuple):
    """State of a tracker: partitions, records partly returned, and offset ranges finished beyond a watermark."""

    topic_partitions: int
    partial: int
    out_of_order: int


class _Summary:
    """Sums of one call of `settle`."""

    __slots__ = ("before", "ends", "finished", "oldest_read_at", "out_of_order_ranges")

    def __init__(self) -> None:
        self.before: dict[_OffsetList, int] = {}
        self.ends = dict.fromkeys(AckStatus, 0)
        self.finished: dict[tuple[TopicPartition, int], tuple[int, int]] = {}
        self.out_of_order_ranges: set[_OffsetList] = set()
        self.oldest_read_at = inf

    def add(self, chain: _OffsetList, count: int, size: int) -> None:
        """Count finished records of a chain."""
        if count:
            assignment = (chain.topic_partition, chain.epoch)
            so_far = self.finished.get(assignment, (0, 0))
            self.finished[assignment] = (so_far[0] + count, so_far[1] + size)

    def settled(self) -> SettleResult:
        """Return the result of the call."""
        moved = [
            Watermark(chain.topic_partition, chain.epoch, chain.finished + 1)
            for chain, was in self.before.items()
            if chain.open and chain.finished != was
        ]
        done, skipped, dead, fenced = (self.ends[status] for status in AckStatus)
        out_of_order_ranges = {
            (chain.topic_partition, chain.epoch): len(chain.out_of_order)
            for chain in self.out_of_order_ranges
            if chain.open
        }
        return SettleResult(moved, done, skipped, dead, fenced, self.finished, out_of_order_ranges, self.oldest_read_at)


class _OffsetList:
    """Records of one assignment of a partition, as far as acknowledgements name them."""

    __slots__ = ("epoch", "finished", "open", "out_of_order", "out_of_order_ranges", "partial", "topic_partition")

    def __init__(self, topic_partition: TopicPartition, epoch: int, *, is_open: bool) -> None:
        self.topic_partition = topic_partition
        self.epoch = epoch
        self.open = is_open
        """True if the partition may be committed: not after a revoke, nor for an older epoch."""
        self.finished = -1
        """Last offset of the finished beginning of the chain; -1 while there is none."""
        self.out_of_order = OffsetRanges()
        """Finished records that wait for an earlier one, each with the gap before it."""
        self.out_of_order_ranges = False
        """True if there are any: checked for every acknowledgement."""
        self.partial: dict[int, tuple[Credit, AckStatus]] = {}
        """Unfinished records of which a share came back: `offset` -> credit so far, worst status."""

    def take(self, acks: list[Ack], tally: _Summary) -> None:
        """Add acknowledgements of this chain's records."""
        partial, ends = self.partial, tally.ends
        done, full, oldest = AckStatus.DONE, FULL_CREDIT, tally.oldest_read_at
        in_order = size = 0
        count = len(acks)
        out_of_order_ranges = self.out_of_order_ranges
        for ack in acks:
            record = ack.record
            if (
                record.previous == self.finished < record.offset
                and ack.credit == full
                and ack.status is done
                and not out_of_order_ranges
                and not (partial and record.offset in partial)
            ):
                self.finished = record.offset
                in_order += 1
            else:
                status = self.settle(record, ack.credit, ack.status)
                if status is None:
                    count -= 1
                    continue
                if out_of_order_ranges or self.out_of_order_ranges:
                    tally.out_of_order_ranges.add(self)
                    out_of_order_ranges = self.out_of_order_ranges
                ends[status] += 1
            key = record.key
            size += len(record.value) + len(key) if key else len(record.value)
            if record.held is not None:
                size += record.held[0]
            if record.read_at < oldest:
                oldest = record.read_at
        ends[done] += in_order
        tally.oldest_read_at = oldest
        tally.add(self, count, size)

    def settle(self, record: Record, credit: Credit, status: AckStatus) -> AckStatus | None:
        """Add `credit` to the returned credit of a record; returns its worst status if that finishes it."""
        offset = record.offset
        if offset <= record.previous:
            raise InvariantError(f"{record.label} (epoch {self.epoch}) was delivered after {record.previous}")
        if offset <= self.finished or (self.out_of_order_ranges and offset in self.out_of_order):
            return None
        if credit <= 0:
            raise InvariantError(f"{record.label} (epoch {self.epoch}) returned a share of {credit}")
        so_far = self.partial.get(offset)
        if so_far is not None:
            credit += so_far[0]
            if _BADNESS[so_far[1]] > _BADNESS[status]:
                status = so_far[1]
        if credit == FULL_CREDIT:
            if so_far is not None:
                del self.partial[offset]
            if status is AckStatus.FENCED:
                self.open = False  # no offset at or beyond a record that was not delivered may be committed
            self.finish(record.previous, offset)
            return status
        if credit > FULL_CREDIT:
            raise InvariantError(f"{record.label} (epoch {self.epoch}) returned {credit} of {FULL_CREDIT}")
        self.partial[offset] = (credit, status)
        return None

    def finish(self, previous: int, offset: int) -> None:
        """Insert a finished record and advance the watermark as far as possible."""
        out_of_order = self.out_of_order
        if previous != self.finished:
            out_of_order.add(previous + 1, offset + 1)
            self.out_of_order_ranges = True
        elif self.out_of_order_ranges:
            self.finished = out_of_order.end_of(offset + 1) - 1
            out_of_order.cut(self.finished + 1)
            self.out_of_order_ranges = len(out_of_order) > 0
        else:
            self.finished = offset


class Tracker:
    """Adds up returned credit and returns the offset up to which each partition may be committed.

    It is pure: no I/O, clock or thread. Whatever the order of acknowledgements, a watermark is never above an
    unfinished record, and it reaches the end when all credit came back. Acknowledging a finished record again has no
    effect. Before a record is finished, a repetition looks like another share, so each share must be returned once.
    Records take no memory unless they are partly returned, or finished ahead of an earlier one. A tracker can be
    pickled. With a `gate` a record is finished only when its changes of state are final.

    >>> tracker = Tracker()
    >>> first, second = Record("in", 0, 5), Record("in", 0, 9, previous=5)
    >>> tracker.settle([Ack(second, second.credit)]).watermarks
    []
    >>> tracker.settle([Ack(first, first.credit)]).watermarks
    [Watermark(topic_partition=('in', 0), epoch=0, offset=10)]
    """

    def __init__(self, gate: StateGate | None = None) -> None:
        self._gate = gate
        self._newest: dict[TopicPartition, _OffsetList] = {}
        self._older: dict[TopicPartition, dict[int, _OffsetList]] = {}

    def settle(self, acks: Iterable[Ack]) -> SettleResult:
        """Add acknowledgements, in any order and of any partitions.

        A newer epoch of a partition replaces the older one. Records of the older epoch still count when they finish,
        but move no watermark any more.

        Raises:
            InvariantError: a record returned more credit than it had, or none at all, or its
                offset is not above the one delivered before it.
        """
        acks = acks if isinstance(acks, list) else list(acks)
        tally = _Summary()
        start = 0
        while start < len(acks):
            chain, stop = self._run(acks, start)
            tally.before.setdefault(chain, chain.finished)
            run = acks[start:stop]
            if self._gate is not None:
                run = self._gate.release(chain.topic_partition, chain.epoch, run, chain.partial)
            chain.take(run, tally)
            start = stop
        return tally.settled()

    def position(self, topic_partition: TopicPartition) -> int | None:
        """Return the offset that may be committed for a partition; None if there is none."""
        chain = self._newest.get(topic_partition)
        return chain.finished + 1 if chain is not None and chain.open and chain.finished >= 0 else None

    def is_open(self, topic_partition: TopicPartition, epoch: int) -> bool:
        """Return True if a record of an assignment has finished, and finished records of it may be committed."""
        chain = self._newest.get(topic_partition)
        return chain is not None and chain.open and chain.epoch == epoch

    def is_ended(self, topic_partition: TopicPartition, epoch: int) -> bool:
        """Return True if nothing of an assignment may be committed any more: it is fenced, or a newer one has begun."""
        chain = self._newest.get(topic_partition)
        return chain is not None and (chain.epoch > epoch or (chain.epoch == epoch and not chain.open))

    def out_of_order(self, topic_partition: TopicPartition, epoch: int) -> OffsetRanges:
        """Return the offsets of an assignment that are finished above its watermark, gaps of the log included."""
        chain = self._newest.get(topic_partition)
        return (
            OffsetRanges(chain.out_of_order)
            if chain is not None and chain.open and chain.epoch == epoch
            else OffsetRanges()
        )

    def statistics(self) -> TrackerStatistics:
        """Return the counts of remembered records, older epochs included."""
        chains = [*self._newest.values(), *(chain for older in self._older.values() for chain in older.values())]
        return TrackerStatistics(
            topic_partitions=len(self._newest),
            partial=sum(len(chain.partial) for chain in chains),
            out_of_order=sum(len(chain.out_of_order) for chain in chains),
        )

    def _run(self, acks: list[Ack], start: int) -> tuple[_OffsetList, int]:
        """Return the chain of the acknowledgement at `start`, and the end of the run of its kind: mostly far away."""
        first = acks[start].record
        topic, partition, epoch = first.topic, first.partition, first.epoch
        for stop in range(start + 1, len(acks)):
            record = acks[stop].record
            if record.partition != partition or record.epoch != epoch or record.topic != topic:
                return self._chain(topic, partition, epoch), stop
        return self._chain(topic, partition, epoch), len(acks)

    def _chain(self, topic: str, partition: int, epoch: int) -> _OffsetList:
        topic_partition = (topic, partition)
        newest = self._newest.get(topic_partition)
        if newest is None or epoch > newest.epoch:
            return self._begin(topic_partition, epoch)
        if epoch == newest.epoch:
            return newest
        older = self._older.setdefault(topic_partition, {})
        if epoch not in older:
            older[epoch] = _OffsetList(topic_partition, epoch, is_open=False)
        return older[epoch]

    def _begin(self, topic_partition: TopicPartition, epoch: int) -> _OffsetList:
        replaced = self._newest.get(topic_partition)
        if replaced is not None:
            replaced.open = False
            older = self._older.setdefault(topic_partition, {})
            older[replaced.epoch] = replaced
            for ended in [e for e, c in older.items() if e < epoch - _REMEMBERED_EPOCHS and not c.partial]:
                del older[ended]
        chain = self._newest[topic_partition] = _OffsetList(topic_partition, epoch, is_open=True)
        return chain
