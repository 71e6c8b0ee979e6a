"""The tracker: decides from acknowledgements alone which offset of a partition may be committed.

Each record names the offset that was delivered before it, so the records of one assignment form a
chain. A record is finished when all its credit came back; the watermark walks along the chain as
far as every record is finished. Nothing is assumed about the distance between offsets.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import NamedTuple

from drakkar_flow.kernel.spans import Spans
from drakkar_flow.model.outcome import Ack, AckStatus
from drakkar_flow.model.record import FULL_CREDIT, Credit, Lane, Record, Watermark
from drakkar_flow.runtime.credit import InvariantError

__all__ = ["Settled", "Statistics", "Tracker"]

_REMEMBERED_EPOCHS = 4
"""How many epochs back a repeated acknowledgement is still known to be one."""

_BADNESS = {AckStatus.DONE: 0, AckStatus.SKIPPED: 1, AckStatus.DEAD: 2, AckStatus.FENCED: 3}


class Settled(NamedTuple):
    """What a batch of acknowledgements changed.

    `watermarks` has the lanes that advanced, each once. The counts are of the records that finished,
    by the worst status of their branches; `fenced` ones belong to revoked partitions and move no
    watermark. `finished` has records and bytes by assignment, older epochs included: they no longer
    occupy memory. `scattered` has the open assignments in which something finished beyond the
    watermark or was reached by it, with the number of spans that are beyond it now.
    `oldest_read_at` is when the longest under way of the finished ones was read.
    """

    watermarks: list[Watermark]
    done: int
    skipped: int
    dead: int
    fenced: int
    finished: dict[tuple[Lane, int], tuple[int, int]]
    scattered: dict[tuple[Lane, int], int]
    oldest_read_at: float


class Statistics(NamedTuple):
    """What a tracker remembers: lanes, records partly returned, spans of finished records beyond a watermark."""

    lanes: int
    partial: int
    beyond: int


class _Tally:
    """What one call of `settle` adds up."""

    __slots__ = ("before", "ends", "finished", "oldest_read_at", "scattered")

    def __init__(self) -> None:
        self.before: dict[_Chain, int] = {}
        self.ends = dict.fromkeys(AckStatus, 0)
        self.finished: dict[tuple[Lane, int], tuple[int, int]] = {}
        self.scattered: set[_Chain] = set()
        self.oldest_read_at = inf

    def add(self, chain: _Chain, count: int, size: int) -> None:
        """Count finished records of a chain."""
        if count:
            assignment = (chain.lane, chain.epoch)
            so_far = self.finished.get(assignment, (0, 0))
            self.finished[assignment] = (so_far[0] + count, so_far[1] + size)

    def settled(self) -> Settled:
        """The sum of it all."""
        moved = [
            Watermark(chain.lane, chain.epoch, chain.finished + 1)
            for chain, was in self.before.items()
            if chain.open and chain.finished != was
        ]
        done, skipped, dead, fenced = (self.ends[status] for status in AckStatus)
        scattered = {(chain.lane, chain.epoch): len(chain.beyond) for chain in self.scattered if chain.open}
        return Settled(moved, done, skipped, dead, fenced, self.finished, scattered, self.oldest_read_at)


class _Chain:
    """The records of one assignment of a lane, as far as acknowledgements tell of them."""

    __slots__ = ("beyond", "epoch", "finished", "lane", "open", "partial", "scattered")

    def __init__(self, lane: Lane, epoch: int, *, is_open: bool) -> None:
        self.lane = lane
        self.epoch = epoch
        self.open = is_open
        """Whether the lane may be committed: not after a revoke, nor for an older epoch."""
        self.finished = -1
        """The last offset of the finished beginning of the chain; -1 while there is none."""
        self.beyond = Spans()
        """Finished records that wait for an earlier one, each with the gap before it."""
        self.scattered = False
        """Whether there are any: asked for every acknowledgement."""
        self.partial: dict[int, tuple[Credit, AckStatus]] = {}
        """Unfinished records of which something came back: `offset` -> credit so far, worst status."""

    def take(self, acks: list[Ack], tally: _Tally) -> None:
        """Take in acknowledgements of this chain's records."""
        partial, ends = self.partial, tally.ends
        done, full, oldest = AckStatus.DONE, FULL_CREDIT, tally.oldest_read_at
        in_order = size = 0
        count = len(acks)
        scattered = self.scattered
        for ack in acks:
            record = ack.record
            if (
                record.previous == self.finished < record.offset
                and ack.credit == full
                and ack.status is done
                and not scattered
                and not (partial and record.offset in partial)
            ):
                self.finished = record.offset
                in_order += 1
            else:
                status = self.settle(record, ack.credit, ack.status)
                if status is None:
                    count -= 1
                    continue
                if scattered or self.scattered:
                    tally.scattered.add(self)
                    scattered = self.scattered
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
        """Add `credit` to what the record returned; gives its worst status when that finishes it."""
        offset = record.offset
        if offset <= record.previous:
            raise InvariantError(f"{record.label} (epoch {self.epoch}) was delivered after {record.previous}")
        if offset <= self.finished or (self.scattered and offset in self.beyond):
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
                self.open = False  # nothing at or beyond a record that was not delivered may be committed
            self.finish(record.previous, offset)
            return status
        if credit > FULL_CREDIT:
            raise InvariantError(f"{record.label} (epoch {self.epoch}) returned {credit} of {FULL_CREDIT}")
        self.partial[offset] = (credit, status)
        return None

    def finish(self, previous: int, offset: int) -> None:
        """Put a finished record into its place and go on from the watermark as far as possible."""
        beyond = self.beyond
        if previous != self.finished:
            beyond.add(previous + 1, offset + 1)
            self.scattered = True
        elif self.scattered:
            self.finished = beyond.end_of(offset + 1) - 1
            beyond.cut(self.finished + 1)
            self.scattered = len(beyond) > 0
        else:
            self.finished = offset


class Tracker:
    """Adds up returned credit and tells how far each lane may be committed.

    It is pure: no I/O, clock or thread. Whatever the order of acknowledgements, a watermark is
    never above a record that is not finished, and reaches the end when all credit came back.
    Acknowledging a finished record again has no effect; before it is finished, a repetition can't
    be told from another share, so each share is returned once. Records that are neither partly
    returned nor finished ahead of an earlier one take no memory. A tracker can be pickled.

    >>> tracker = Tracker()
    >>> first, second = Record("in", 0, 5), Record("in", 0, 9, previous=5)
    >>> tracker.settle([Ack(second, second.credit)]).watermarks
    []
    >>> tracker.settle([Ack(first, first.credit)]).watermarks
    [Watermark(lane=('in', 0), epoch=0, offset=10)]
    """

    def __init__(self) -> None:
        self._newest: dict[Lane, _Chain] = {}
        self._older: dict[Lane, dict[int, _Chain]] = {}

    def settle(self, acks: Iterable[Ack]) -> Settled:
        """Take in acknowledgements, in any order and of any lanes.

        A newer epoch of a lane replaces the older one, whose records still count when they
        finish but move no watermark any more.

        Raises:
            InvariantError: when a record returned more credit than it had, or none at all, or its
                offset is not above the one delivered before it.
        """
        acks = acks if isinstance(acks, list) else list(acks)
        tally = _Tally()
        start = 0
        while start < len(acks):
            chain, stop = self._run(acks, start)
            tally.before.setdefault(chain, chain.finished)
            chain.take(acks[start:stop], tally)
            start = stop
        return tally.settled()

    def position(self, lane: Lane) -> int | None:
        """The offset that may be committed for a lane; None when nothing may."""
        chain = self._newest.get(lane)
        return chain.finished + 1 if chain is not None and chain.open and chain.finished >= 0 else None

    def beyond(self, lane: Lane, epoch: int) -> Spans:
        """The offsets of an assignment that are finished above its watermark, gaps of the log among them included."""
        chain = self._newest.get(lane)
        return Spans(chain.beyond) if chain is not None and chain.open and chain.epoch == epoch else Spans()

    def statistics(self) -> Statistics:
        """How much is remembered, older epochs included."""
        chains = [*self._newest.values(), *(chain for older in self._older.values() for chain in older.values())]
        return Statistics(
            lanes=len(self._newest),
            partial=sum(len(chain.partial) for chain in chains),
            beyond=sum(len(chain.beyond) for chain in chains),
        )

    def _run(self, acks: list[Ack], start: int) -> tuple[_Chain, int]:
        """The chain of the acknowledgement at `start`, and where the run of its kind ends: mostly far away."""
        first = acks[start].record
        topic, partition, epoch = first.topic, first.partition, first.epoch
        for stop in range(start + 1, len(acks)):
            record = acks[stop].record
            if record.partition != partition or record.epoch != epoch or record.topic != topic:
                return self._chain(topic, partition, epoch), stop
        return self._chain(topic, partition, epoch), len(acks)

    def _chain(self, topic: str, partition: int, epoch: int) -> _Chain:
        lane = (topic, partition)
        newest = self._newest.get(lane)
        if newest is None or epoch > newest.epoch:
            return self._begin(lane, epoch)
        if epoch == newest.epoch:
            return newest
        older = self._older.setdefault(lane, {})
        if epoch not in older:
            older[epoch] = _Chain(lane, epoch, is_open=False)
        return older[epoch]

    def _begin(self, lane: Lane, epoch: int) -> _Chain:
        replaced = self._newest.get(lane)
        if replaced is not None:
            replaced.open = False
            older = self._older.setdefault(lane, {})
            older[replaced.epoch] = replaced
            for ended in [e for e, c in older.items() if e < epoch - _REMEMBERED_EPOCHS and not c.partial]:
                del older[ended]
        chain = self._newest[lane] = _Chain(lane, epoch, is_open=True)
        return chain
