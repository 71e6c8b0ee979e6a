"""Columns: records on their way to another process, as one message. Pure.

A message has a column per field as msgpack, and the payloads as one pickle: it costs a fraction of what pickled records
do. `previous` is not sent: the chain of offsets stays with the process that read the records.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from fractions import Fraction
from itertools import islice
from typing import Any

import msgspec

from drakkar_flow.kernel.payloads import read_payloads, write_payloads
from drakkar_flow.model.record import FULL_CREDIT, Record

__all__ = ["Message", "pack", "payloads_of", "records_of"]

Message = tuple[bytes, bytes]
"""Records without their payloads, and the pickle of the payloads: empty if all are None."""


class _Divided(msgspec.Struct, array_like=True, gc=False):
    """Shares of divided records: by share the index of its record, its credit and its number."""

    records: list[int]
    credits: list[int | str]
    shares: list[int]


class _Columns(msgspec.Struct, array_like=True, gc=False):
    """Columns by record; `shards` and `state_keys` by share, where records are divided.

    `runs` has topic, partition, epoch and number of consecutive records of one assignment.
    """

    runs: list[tuple[str, int, int, int]]
    offsets: list[int]
    values: list[bytes]
    keys: list[bytes | None]
    timestamps: list[int]
    read_at: list[float]
    shards: bytes
    state_keys: list[str]
    headers: list[list[tuple[str, Any]] | None] | None
    tombstones: list[int]
    parse_errors: dict[int, str]
    divided: _Divided | None


def pack(records: Sequence[Record]) -> Message:
    """Write records with their shards and keys of state as a message.

    >>> record = Record("in", 3, 7, b"raw", payload={"n": 1}, shard=9, state_key="anna")
    >>> message = pack([record])
    >>> [each.label for each in records_of(message)], payloads_of(message)
    (['in:3:7'], [{'n': 1}])

    Raises:
        Exception: a payload can't be pickled; whatever its type raises.
    """
    payloads = [record.payload for record in records]
    blob = b"" if payloads.count(None) == len(payloads) else write_payloads(payloads)
    shards, state_keys = bytes([record.shard for record in records]), [record.state_key for record in records]
    divided = None
    if [record.credit for record in records].count(FULL_CREDIT) != len(records):
        records, divided = _undivided(records)
    headers: list[Any] = [record.headers for record in records]
    columns = _Columns(
        _runs(records),
        [record.offset for record in records],
        [record.value for record in records],
        [record.key for record in records],
        [record.timestamp for record in records],
        [record.read_at for record in records],
        shards,
        state_keys,
        None if headers.count(None) == len(headers) else headers,
        [index for index, record in enumerate(records) if record.is_tombstone],
        {index: _utf8(record.parse_error) for index, record in enumerate(records) if record.parse_error is not None},
        divided,
    )
    return _encode(columns), blob


def records_of(message: Message) -> list[Record]:
    """Return the records of a message, or their shares, without payloads."""
    columns = _decode(message[0])
    rows = zip(columns.offsets, columns.values, columns.keys, columns.timestamps, columns.read_at, strict=True)
    records = [
        Record(topic, partition, offset, value, key, timestamp, epoch=epoch, read_at=read_at)
        for topic, partition, epoch, count in columns.runs
        for offset, value, key, timestamp, read_at in islice(rows, count)
    ]
    if columns.headers is not None:
        for record, headers in zip(records, columns.headers, strict=True):
            record.headers = headers
    for index in columns.tombstones:
        records[index].is_tombstone = True
    for index, error in columns.parse_errors.items():
        records[index].parse_error = error
    if columns.divided is not None:
        records = _divided(records, columns.divided)
    for record, shard, state_key in zip(records, columns.shards, columns.state_keys, strict=True):
        record.shard, record.state_key = shard, state_key
    return records


def payloads_of(message: Message) -> list[Any] | None:
    """Return the payloads of a message; None if the records have none.

    Raises:
        Exception: a payload can't be read; whatever its type raises.
    """
    return read_payloads(message[1]) if message[1] else None


def _runs(records: Sequence[Record]) -> list[tuple[str, int, int, int]]:
    """Return the assignments of consecutive records, each with the number of its records."""
    runs: list[tuple[str, int, int, int]] = []
    start, first = 0, records[0]
    topic, partition, epoch = first.topic, first.partition, first.epoch
    for index, record in enumerate(records):
        if record.partition != partition or record.topic != topic or record.epoch != epoch:
            runs.append((topic, partition, epoch, index - start))
            start, topic, partition, epoch = index, record.topic, record.partition, record.epoch
    runs.append((topic, partition, epoch, len(records) - start))
    return runs


def _undivided(shares: Sequence[Record]) -> tuple[list[Record], _Divided]:
    """Return one share of each record, and by share the rest."""
    indexes: dict[tuple[str, int, int, int], int] = {}
    records: list[Record] = []
    of: list[int] = []
    for share in shares:
        index = indexes.setdefault((share.topic, share.partition, share.epoch, share.offset), len(records))
        if index == len(records):
            records.append(share)
        of.append(index)
    parts = [share.credit if isinstance(share.credit, int) else str(share.credit) for share in shares]
    return records, _Divided(of, parts, [share.share for share in shares])


def _divided(records: Sequence[Record], divided: _Divided) -> list[Record]:
    """Return the shares of records. Shares of one record have bytes and number of tasks in common."""
    shares = []
    taken: set[int] = set()
    for index, credit, number in zip(divided.records, divided.credits, divided.shares, strict=True):
        record = records[index]
        if record.held is None:
            record.held, record.task_counter = [0], [0]
        share = copy(record) if index in taken else record
        taken.add(index)
        share.credit = credit if isinstance(credit, int) else Fraction(credit)
        share.share = number
        shares.append(share)
    return shares


def _utf8(text: str) -> str:
    return text.encode(errors="replace").decode()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Columns).decode
