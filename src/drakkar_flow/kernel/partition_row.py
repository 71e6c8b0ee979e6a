"""Partition row: position, offsets finished beyond it and keyed state of a partition, stored as one value. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.model.record import TopicPartition

__all__ = ["ROW_FORMAT", "PartitionRow", "RowError", "StateKey", "decode_rows", "encode_rows"]

ROW_FORMAT = 1
"""Version of the format of rows; a row of a later version is refused."""

StateKey = tuple[str, str]
"""Key of a value of state: the id of the step that owns it, and the user's key."""


class RowError(ValueError):
    """A row that can't be read: damaged, or of a later format."""


class PartitionRow(NamedTuple):
    """Final offsets and state of a partition at one instant.

    - `offset`: the first offset that is not finished.
    - `finished`: offsets beyond it that are finished.
    - `state`: encoded values by their keys; each is the result of finished records alone.
    """

    offset: int
    finished: OffsetRanges
    state: Mapping[StateKey, bytes]


def encode_rows(rows: Mapping[TopicPartition, PartitionRow]) -> bytes:
    """Write the rows of several partitions as one value.

    >>> row = PartitionRow(7, OffsetRanges([(9, 11)]), {("stateful-count", "anna"): b"3"})
    >>> decode_rows(encode_rows({("in", 3): row}))[("in", 3)].state
    {('stateful-count', 'anna'): b'3'}
    """
    packed = []
    for (topic, partition), row in rows.items():
        tables: dict[str, dict[str, bytes]] = {}
        for (step, key), value in row.state.items():
            tables.setdefault(step, {})[key] = value
        packed.append((topic, partition, row.offset, list(row.finished), tables))
    return msgspec.msgpack.encode((ROW_FORMAT, packed))


def decode_rows(value: bytes) -> dict[TopicPartition, PartitionRow]:
    """Read the value of `encode_rows`.

    Raises:
        RowError: the value is damaged, or of a later format.
    """
    try:
        found, packed = _decode(value)
        if found > ROW_FORMAT:
            raise RowError(f"a row of format {found}; this version reads up to {ROW_FORMAT}")
        return {
            (topic, partition): PartitionRow(
                offset,
                OffsetRanges(finished),
                {(step, key): each for step, values in tables.items() for key, each in values.items()},
            )
            for topic, partition, offset, finished, tables in msgspec.convert(packed, _PACKED)
        }
    except (msgspec.MsgspecError, TypeError) as exc:
        raise RowError(f"a damaged row: {exc}") from exc


_PACKED = list[tuple[str, int, int, list[tuple[int, int]], dict[str, dict[str, bytes]]]]
_decode = msgspec.msgpack.Decoder(tuple[int, Any]).decode
