"""Way home: acknowledgements of records that were away return to the process that read the records."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from drakkar_flow.model.outcome import Ack, AckStatus
from drakkar_flow.model.record import Record, TopicPartition

__all__ = ["Away", "SlimAcks", "slim"]

SlimAcks = bytes
"""Acknowledgements without their records, as msgpack: that of a chunk is a few kilobytes."""

_STATUSES = tuple(AckStatus)
_CODES = {status: code for code, status in enumerate(_STATUSES)}
_HELD = len(_STATUSES)
_Run = tuple[str, int, int, list[int], list[int], list[int]]
"""Topic, partition and epoch; then by acknowledgement offset, number of the share, and code of the status."""


class Away:
    """Records of this process that are worked on in another one, without their payloads.

    >>> away = Away()
    >>> away.add([Record("in", 0, 7, previous=6, payload="sent")])
    >>> [(ack.record.previous, ack.status.value) for ack in away.returned(slim([Ack(Record("in", 0, 7), 1)]))]
    [(6, 'done')]
    """

    def __init__(self) -> None:
        self.on_hold: Callable[[list[Record]], object] = bool
        """Called with records that keep their credit in the other process, permanently."""
        self.on_return: Callable[[], object] = bool
        """Called after acknowledgements returned: they make room, and ring no bell otherwise."""
        self._records: dict[tuple[TopicPartition, int], dict[tuple[int, int], Record]] = {}

    def add(self, records: Iterable[Record]) -> None:
        """Note records that leave; their payloads are dropped."""
        for record in records:
            record.payload = None
            at = ((record.topic, record.partition), record.epoch)
            known = self._records.get(at)
            if known is None:
                known = self._records[at] = {}
            known[record.offset, record.share] = record

    def returned(self, acks: SlimAcks) -> list[Ack]:
        """Return acknowledgements with the records of this process. Each has all the credit that left."""
        found: list[Ack] = []
        held: list[Record] = []
        for topic, partition, epoch, offsets, shares, codes in _decode(acks):
            known = self._records[(topic, partition), epoch]
            for offset, share, code in zip(offsets, shares, codes, strict=True):
                record = known.pop((offset, share))
                if code == _HELD:
                    held.append(record)
                else:
                    found.append(Ack(record, record.credit, _STATUSES[code]))
        if held:
            self.on_hold(held)
        self.on_return()
        return found


def slim(acks: Iterable[Ack]) -> SlimAcks:
    """Write acknowledgements of whole records, or of whole shares, of other processes.

    One without credit is a notice: its record keeps its credit, so that no drain has to wait for it at home.
    """
    runs: list[_Run] = []
    place: tuple[str, int, int] | None = None
    offsets: list[int] = []
    shares: list[int] = []
    codes: list[int] = []
    for ack in acks:
        record = ack.record
        here = (record.topic, record.partition, record.epoch)
        if here != place:
            place, offsets, shares, codes = here, [], [], []
            runs.append((*here, offsets, shares, codes))
        offsets.append(record.offset)
        shares.append(record.share)
        codes.append(_CODES[ack.status] if ack.credit else _HELD)
    return _encode(runs)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Run]).decode
