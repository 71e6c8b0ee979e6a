"""Read-only reader of a recovery store: the rows that Bytewax would resume with, also while a worker runs."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Never, TypeVar

from drakkar_flow.kernel.partition_row import PartitionRow, RowError, StateKey, decode_rows, decode_shard
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.runtime.recovery.files import DamagedStore, Progress, opened, part_files, progress_of, read_part

T = TypeVar("T")

__all__ = ["SETTLE", "TRACK", "StoreRows", "StoredRow", "StoredShard", "read_rows"]

TRACK = "track"
"""Name of the step that writes the rows of partitions: its id is `<flow>.track`."""
SETTLE = "settle"
"""Name of the step that writes the rows of shards."""
_ATTEMPTS = 10  # of a read that the worker's next epoch overtakes

_CURRENT = """
    SELECT state_key, MAX(snap_epoch), ser_change, created_at FROM snaps
    WHERE step_id = ? AND snap_epoch < ? GROUP BY state_key
"""  # SQLite takes the other columns from the row of the maximum


class StoredRow(NamedTuple):
    """A partition's row: its slot, the epoch it was written in, the time in UTC, and the bytes of the whole slot."""

    row: PartitionRow
    slot: str
    epoch: int
    written_at: datetime
    size: int


class StoredShard(NamedTuple):
    """Row of a shard: its state across partitions, the epoch it was written in, the time in UTC, and its bytes."""

    state: Mapping[StateKey, bytes]
    epoch: int
    written_at: datetime
    size: int


class StoreRows(NamedTuple):
    """The rows of a store, and the point from which Bytewax would resume with them; `shards` by their names."""

    progress: Progress
    partitions: int
    rows: dict[TopicPartition, StoredRow]
    shards: Mapping[str, StoredShard] = MappingProxyType({})

    @property
    def states(self) -> list[Mapping[StateKey, bytes]]:
        """The state of all partitions and shards."""
        return [each.row.state for each in self.rows.values()] + [each.state for each in self.shards.values()]

    @property
    def written_at(self) -> datetime | None:
        """The time of the newest row; None without rows."""
        rows: list[StoredRow | StoredShard] = [*self.rows.values(), *self.shards.values()]
        return max((each.written_at for each in rows), default=None)


def read_rows(directory: Path, flow: str) -> StoreRows:
    """Read the rows of a flow.

    A running worker goes on meanwhile: the files are opened read-only for one short read each. If an epoch ends between
    two of them, all are read again.

    Raises:
        DamagedStore: a file or a row is damaged, files are missing or do not belong together.
    """
    for _ in range(_ATTEMPTS):
        parts = [read_part(path) for path in part_files(directory)]
        before = progress_of(directory, parts)
        rows = {at: row for part in parts for at, row in _rows(part.path, f"{flow}.{TRACK}", before.epoch)}
        shards = {name: row for part in parts for name, row in _shards(part.path, f"{flow}.{SETTLE}", before.epoch)}
        if before == progress_of(directory, [read_part(part.path) for part in parts]):
            return StoreRows(before, len(parts), rows, shards)
    raise DamagedStore(directory, "changes faster than it can be read; read a copy, or while no worker runs")


def _rows(path: Path, step_id: str, epoch: int) -> Iterator[tuple[TopicPartition, StoredRow]]:
    for slot, rows, written_in, written_at, size in _decoded(path, step_id, epoch, decode_rows):
        for at, row in rows.items():
            yield at, StoredRow(row, slot, written_in, written_at, size)


def _shards(path: Path, step_id: str, epoch: int) -> Iterator[tuple[str, StoredShard]]:
    for shard, state, written_in, written_at, size in _decoded(path, step_id, epoch, decode_shard):
        yield shard, StoredShard(state, written_in, written_at, size)


def _decoded(
    path: Path, step_id: str, epoch: int, decode: Callable[[bytes], T]
) -> Iterator[tuple[str, T, int, datetime, int]]:
    """Yield key, value, epoch, time and size of the current snapshots of a step."""
    with opened(path) as connection:
        found = connection.execute(_CURRENT, (step_id, epoch)).fetchall()
    for key, written_in, change, created_at in found:
        if change is None:
            continue
        try:
            value = decode(_bytes_of(change))
        except (pickle.UnpicklingError, RowError, EOFError, ValueError, IndexError, KeyError) as exc:
            raise DamagedStore(path, f"{key}: {exc}") from exc
        yield key, value, written_in, datetime.fromisoformat(created_at).replace(tzinfo=UTC), len(change)


class _BytesOnly(pickle.Unpickler):
    """Refuses every class and function: a store is data, also if another program wrote it."""

    def find_class(self, module: str, name: str) -> Never:
        raise pickle.UnpicklingError(f"a row holds {module}.{name} instead of bytes")

    def persistent_load(self, pid: Any) -> Never:
        raise pickle.UnpicklingError("a row holds a reference instead of bytes")


def _bytes_of(change: bytes) -> bytes:
    value = _BytesOnly(io.BytesIO(change)).load()
    if not isinstance(value, bytes):
        raise pickle.UnpicklingError(f"a row holds {type(value).__name__} instead of bytes")
    return value
