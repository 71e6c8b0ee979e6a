"""Partition row: position, offsets finished beyond it and keyed state of a partition, stored as one value. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.model.record import TopicPartition

__all__ = ["ROW_FORMAT", "PartitionRow", "RowError", "StateKey", "StateTables", "decode_rows", "encode_rows"]

ROW_FORMAT = 1
"""Version of the format of rows; a row of a later version is refused."""

StateKey = tuple[str, str]
"""Key of a value of state: the id of the step that owns it, and the user's key."""


class StateTables(Mapping[StateKey, bytes]):
    """Values of state in a table per step: `tables` has the values of each step by the user's key.

    >>> state = StateTables({("count", "anna"): b"3"})
    >>> state[("count", "anna")], state.of("count"), state.of("other")
    (b'3', {'anna': b'3'}, {})
    """

    __slots__ = ("tables",)

    def __init__(self, values: Mapping[StateKey, bytes] | None = None) -> None:
        self.tables: dict[str, dict[str, bytes]] = {}
        if isinstance(values, StateTables):
            self.tables = {step: dict(table) for step, table in values.tables.items() if table}
        elif values is not None:
            for (step, key), value in values.items():
                self.tables.setdefault(step, {})[key] = value

    @classmethod
    def by_step(cls, tables: dict[str, dict[str, bytes]]) -> StateTables:
        """Return tables as one mapping, without a copy."""
        made = cls()
        made.tables = tables
        return made

    def of(self, step: str) -> Mapping[str, bytes]:
        """Return the values of a step."""
        return self.tables.get(step, {})

    def __getitem__(self, key: StateKey) -> bytes:
        step, text = key
        return self.of(step)[text]

    def __iter__(self) -> Iterator[StateKey]:
        return ((step, key) for step, table in self.tables.items() for key in table)

    def __len__(self) -> int:
        return sum(map(len, self.tables.values()))

    def __repr__(self) -> str:
        return f"StateTables({self.tables})"


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
    StateTables({'stateful-count': {'anna': b'3'}})
    """
    packed = [
        (topic, partition, row.offset, list(row.finished), _tables(row.state))
        for (topic, partition), row in rows.items()
    ]
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
                StateTables.by_step(tables),
            )
            for topic, partition, offset, finished, tables in msgspec.convert(packed, _PACKED)
        }
    except (msgspec.MsgspecError, TypeError) as exc:
        raise RowError(f"a damaged row: {exc}") from exc


def _tables(state: Mapping[StateKey, bytes]) -> dict[str, dict[str, bytes]]:
    return (state if isinstance(state, StateTables) else StateTables(state)).tables


_PACKED = list[tuple[str, int, int, list[tuple[int, int]], dict[str, dict[str, bytes]]]]
_decode = msgspec.msgpack.Decoder(tuple[int, Any]).decode
