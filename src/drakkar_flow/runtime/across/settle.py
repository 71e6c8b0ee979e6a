"""Settle: adds up the credit of records at their shard, where their changes become final, and sends it home.

An acknowledgement leaves in the epoch in which the shard's row holds the change. So a slot's row that calls the record
finished and the shard's row with its change are of one epoch, and the store has both or neither.
"""

from __future__ import annotations

from typing import Any

from bytewax import operators as op
from bytewax.operators import KeyedStream, StatefulBatchLogic

from drakkar_flow.kernel.ledger import RecordId
from drakkar_flow.kernel.shards import EPOCH, shard_at, shard_name
from drakkar_flow.model.outcome import Ack, AckStatus
from drakkar_flow.model.record import FULL_CREDIT
from drakkar_flow.runtime.across.shards import Shards
from drakkar_flow.runtime.chunk import Chunk, Keyed

__all__ = ["ShardItem", "by_shard", "settle_step", "without_shard"]

ShardItem = tuple[str, list[Ack]]
"""A shard's name and its acknowledgements."""

_BADNESS = {status: rank for rank, status in enumerate(AckStatus)}


def by_shard(batch: list[Keyed]) -> list[ShardItem]:
    """Return the acknowledgements of records that came to a shard, one list per shard.

    Those of fenced records are dropped: the process ends, and the records are read again, with all that rests on them.
    """
    found: dict[int, list[Ack]] = {}
    fenced = AckStatus.FENCED
    for _, chunk in batch:
        for ack in chunk.acks:
            shard = ack.record.shard
            if shard >= 0 and ack.status is not fenced and ack.credit:
                if shard in found:
                    found[shard].append(ack)
                else:
                    found[shard] = [ack]
    return [(shard_name(shard), acks) for shard, acks in found.items()]


def without_shard(batch: list[Keyed]) -> list[Keyed]:
    """Return the acknowledgements of records that came to no shard, because they ended before, and notices."""
    found = []
    for key, chunk in batch:
        acks = [ack for ack in chunk.acks if ack.record.shard < 0 or not ack.credit]
        if acks:
            found.append((key, Chunk[Any](None, None, acks)))
    return found


class _Settle(StatefulBatchLogic[list[Ack] | int, Chunk[Any], bytes | None]):
    """Credit of the unfinished records of one shard; `row` is what the store has of it.

    A record, or a share of a divided one, is finished when all the credit that came to the shard is back. With
    `tells_rows` the row goes along as an item, for a test's store.
    """

    def __init__(self, shards: Shards, row: bytes | None, *, tells_rows: bool) -> None:
        self._shards = shards
        self._row = row
        self._tells_rows = tells_rows
        self._shard = -1
        self._held: dict[RecordId, Ack] = {}

    def on_batch(self, values: list[list[Ack] | int]) -> tuple[list[Chunk[Any]], bool]:
        released: list[Ack] = []
        for value in values:
            if isinstance(value, int):
                self._shard = value
                self._shards.load(value, self._row)
            else:
                self._shard = value[0].record.shard
                released += self._settled(value)
        if not released:
            return [], False
        rows = [(self._shard, self._shards.row(self._shard))] if self._tells_rows else None
        return [Chunk(rows, None, released)], False

    def on_notify(self) -> tuple[list[Chunk[Any]], bool]:
        return [], False

    def on_eof(self) -> tuple[list[Chunk[Any]], bool]:
        return [], False  # True would remove the row

    def notify_at(self) -> None:
        return None

    def snapshot(self) -> bytes | None:
        return self._row if self._shard < 0 else self._shards.row(self._shard)

    def _settled(self, acks: list[Ack]) -> list[Ack]:
        """Add acknowledgements; returns those of records whose changes are final now."""
        held, shards = self._held, self._shards
        with shards.ledgers.lock:
            ledger = shards.ledgers.at(shard_at(self._shard), EPOCH)
            assert ledger is not None
            units = [(ack.record.topic, ack.record.partition, ack.record.offset, ack.record.share) for ack in acks]
            whole = [ack.credit for ack in acks].count(FULL_CREDIT) == len(acks)
            if whole and held.keys().isdisjoint(units):  # most, and so cheaper
                final = ledger.finish_all(units)
                shards.forget(final)
                if len(final) == len(acks) and not held:
                    return acks
                held.update(zip(units, acks, strict=True))
                return [held.pop(each) for each in final]
            released: list[Ack] = []
            for unit, returned in zip(units, acks, strict=True):
                held[unit] = ack = _sum(held[unit], returned) if unit in held else returned
                if ack.credit in (FULL_CREDIT, shards.expected(unit)):
                    final = ledger.finish(unit)
                    shards.forget(final)
                    released += [held.pop(each) for each in final]
        return released


def settle_step(step_id: str, up: KeyedStream[Any], shards: Shards, *, tells_rows: bool) -> KeyedStream[Any]:
    """Lower the settling of all shards."""
    return op.stateful_batch(step_id, up, lambda row: _Settle(shards, row, tells_rows=tells_rows))


def _sum(one: Ack, other: Ack) -> Ack:
    return Ack(one.record, one.credit + other.credit, max(one.status, other.status, key=_BADNESS.__getitem__))
