"""State gate, before the tracker: a record with changes is finished only when its changes are final."""

from __future__ import annotations

from collections.abc import Mapping

from drakkar_flow.kernel.ledger import Ledger
from drakkar_flow.model.outcome import Ack, AckStatus
from drakkar_flow.model.record import FULL_CREDIT, Credit, TopicPartition
from drakkar_flow.runtime.state.ledgers import Ledgers

__all__ = ["StateGate"]

_BADNESS = {status: rank for rank, status in enumerate(AckStatus)}

Partial = Mapping[int, tuple[Credit, AckStatus]]
"""Credit that the tracker has of unfinished records, by offset."""


class StateGate:
    """Holds acknowledgements of records whose changes are not final; those of other records pass.

    An assignment is fenced as soon as one of its records is: held acknowledgements then pass as fenced, because the
    changes of their records are dropped.
    """

    def __init__(self, ledgers: Ledgers) -> None:
        self._ledgers = ledgers
        self._held: dict[tuple[TopicPartition, int], dict[int, Ack]] = {}

    def release(self, topic_partition: TopicPartition, epoch: int, acks: list[Ack], partial: Partial) -> list[Ack]:
        """Take acknowledgements of one assignment; returns those that count now, earlier ones included."""
        assignment = (topic_partition, epoch)
        with self._ledgers.lock:
            ledger = self._ledgers.at(topic_partition, epoch)
            if ledger is not None:
                held = self._held.setdefault(assignment, {})
                full, fenced = FULL_CREDIT, AckStatus.FENCED
                whole = [
                    record.offset
                    for ack in acks
                    if ack.credit == full and ack.status is not fenced and (record := ack.record).offset not in held
                ]
                if len(whole) == len(acks):  # most, and so cheaper
                    released = _finish(ledger, held, acks, whole)
                else:
                    released = _divided(ledger, held, acks, partial)
                if not held:
                    del self._held[assignment]
                if len(whole) == len(acks) or not any(ack.status is fenced for ack in acks):
                    return released
                self._ledgers.fence(topic_partition, epoch)
                acks = released
        left = self._held.pop(assignment, None)
        return [*acks, *(_fenced(ack) for ack in left.values())] if left else acks


def _finish(ledger: Ledger, held: dict[int, Ack], acks: list[Ack], offsets: list[int]) -> list[Ack]:
    """Finish records that return all their credit at once; returns the acknowledgements of those that are final."""
    final = ledger.finish_all(offsets)
    if len(final) == len(acks) and not held:
        return acks
    held.update(zip(offsets, acks, strict=True))
    return [held.pop(offset) for offset in dict.fromkeys(final)]


def _divided(ledger: Ledger, held: dict[int, Ack], acks: list[Ack], partial: Partial) -> list[Ack]:
    """Add shares of credit, and finish records of which all came back."""
    released: list[Ack] = []
    for ack in acks:
        offset = ack.record.offset
        if ack.status is AckStatus.FENCED or offset not in ledger:
            released.append(ack)
            continue
        so_far = held.get(offset)
        if so_far is not None and _credit(so_far, partial) == FULL_CREDIT:
            continue  # finished already: a repetition
        held[offset] = so_far = ack if so_far is None else _sum(so_far, ack)
        if _credit(so_far, partial) >= FULL_CREDIT:
            released += [held.pop(each) for each in ledger.finish(offset)]
    return released


def _credit(ack: Ack, partial: Partial) -> Credit:
    """Return the credit of a record that came back: here, and to the tracker before the record changed anything."""
    return ack.credit + partial.get(ack.record.offset, (0,))[0]


def _sum(one: Ack, other: Ack) -> Ack:
    return Ack(one.record, one.credit + other.credit, max(one.status, other.status, key=_BADNESS.__getitem__))


def _fenced(ack: Ack) -> Ack:
    return Ack(ack.record, ack.credit, AckStatus.FENCED)
