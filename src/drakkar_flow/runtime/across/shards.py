"""Shards of one process: their ledgers, and the rows that they begin with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from drakkar_flow.kernel.ledger import RecordId
from drakkar_flow.kernel.partition_row import decode_shard, encode_shard
from drakkar_flow.kernel.routing import home_key
from drakkar_flow.kernel.shards import EPOCH, SHARDS, owners_of_shards, record_id, shard_at, shard_name
from drakkar_flow.model.record import FULL_CREDIT, Credit, Record
from drakkar_flow.runtime.state.ledgers import Ledgers

__all__ = ["Shards"]


class Shards:
    """Place of this process among those that share the shards, and the state of its shards.

    `ready` is False until each of them has its row: no record may reach the step with state before.

    Args:
        process: index of this process.
        processes: number of processes.
        stored: rows come from the recovery store; otherwise all shards begin empty at once.
    """

    def __init__(self, process: int = 0, processes: int = 1, *, stored: bool = False) -> None:
        self.process = process
        self.processes = processes
        self.destinations = owners_of_shards(processes)
        """The process of each shard."""
        self.keys = tuple(home_key(each, processes) for each in range(processes))
        """The key that Bytewax routes to each process."""
        self.own = [shard for shard in range(SHARDS) if self.destinations[shard] == process]
        """Shards of this process."""
        self.ledgers = Ledgers()
        self.on_loaded: Callable[[], object] = bool
        """Called for each shard that has its row."""
        self._missing = set(self.own) if stored else set()
        self._lock = threading.Lock()
        self._expected: dict[RecordId, Credit] = {}

    @classmethod
    def with_detour(cls) -> Shards:
        """Make all shards of a test: records of every second one take the way of another process, and back."""
        shards = cls()
        shards.destinations = (0, 1) * (SHARDS // 2)
        shards.keys = shards.keys * 2
        return shards

    def is_away(self, record: Record) -> bool:
        """Return True if a record has left for its shard."""
        return self.destinations[record.shard] != self.process

    def hellos(self) -> list[tuple[str, int]]:
        """Return name and number of each shard of this process: the items that make those without a row."""
        return [(shard_name(shard), shard) for shard in self.own]

    @property
    def ready(self) -> bool:
        """True if every shard of this process has its row."""
        return not self._missing

    def expect(self, records: Iterable[Record]) -> None:
        """Note the shares of divided records that arrive: they are finished with less than a record's credit."""
        for record in records:
            if record.credit != FULL_CREDIT:
                self._expected[record_id(record)] = record.credit

    def expected(self, share: RecordId) -> Credit:
        """Return the credit with which an unfinished share has arrived."""
        return self._expected.get(share, FULL_CREDIT)

    def forget(self, finished: Iterable[RecordId]) -> None:
        """Forget shares that are finished."""
        if self._expected:
            for each in finished:
                self._expected.pop(each, None)

    def load(self, shard: int, row: bytes | None) -> None:
        """Begin a shard with its stored row; None if it has none."""
        self.ledgers.load(shard_at(shard), {} if row is None else decode_shard(row), EPOCH)
        with self._lock:
            self._missing.discard(shard)
        self.on_loaded()

    def row(self, shard: int) -> bytes:
        """Return the final state of a shard as its row."""
        return encode_shard(self.ledgers.final(shard_at(shard)))
