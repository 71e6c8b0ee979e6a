"""The Bytewax side of reading: slots that pop what a reader has buffered and never touch the network."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from zlib import crc32

from bytewax.inputs import DynamicSource, StatelessSourcePartition

from drakkar_flow.executor.base import Executor
from drakkar_flow.model.record import Record, TopicPartition
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.admission import AdmissionControl
from drakkar_flow.runtime.chunk import Chunk, Keyed
from drakkar_flow.runtime.reader import Reader
from drakkar_flow.runtime.stop_signal import StopSignal

__all__ = ["ExecutorAdmission", "RecordSource", "shard_key"]

_CHUNK = 1000  # records: large enough to make a step's fixed cost vanish, small enough to stay responsive
_FIRST_CHUNK = 100  # doubles from chunk to chunk: what becomes of a record, and how large, is not known yet
_NOW = datetime(1970, 1, 1, tzinfo=UTC)  # a time that has passed: Bytewax calls again at once, where None makes it wait
_PAUSE_S = 0.02  # the longest sleep while records are in flight: the pace of the intake depends on time alone
_IDLE_PAUSE_S = 0.1  # the longest sleep otherwise; whatever could end it rings, so this is for the watchdog
_TURN_S = 0.001  # the least from one sleep's end to the next: a turn for every finished record would hold up the loop
_SHARED_PAUSE_S = 0.001  # likewise with several engine threads: what they exchange rings no bell


class ExecutorAdmission:
    """The intake's bound for a running executor."""

    def __init__(self, intake: AdmissionControl, executor: Executor, in_flight: InFlight) -> None:
        self._intake = intake
        self._executor = executor
        self._in_flight = in_flight

    def room(self) -> int:
        """How many records may be read now."""
        now, executor = time.monotonic(), self._executor.statistics()
        load = executor.running + executor.waiting
        finished = self._in_flight.finished
        return self._intake.room(now=now, slots=executor.slots, load=load, finished=finished, ended=executor.ended)

    def take(self, count: int) -> None:
        """Note that `count` records were read."""
        self._intake.take(count)


def shard_key(topic_partition: TopicPartition, shards: int) -> str:
    """The Bytewax key that all records of a partition travel under.

    >>> shard_key(("in", 3), 1)
    '0'
    """
    return str(crc32(f"{topic_partition[0]}:{topic_partition[1]}".encode()) % shards)


class RecordSource(DynamicSource[Keyed]):
    """One slot per Bytewax worker, each serving a fixed share of any number of partitions."""

    def __init__(
        self,
        reader: Reader,
        in_flight: InFlight,
        control: StopSignal,
        shards: int,
        intake: ExecutorAdmission | None = None,
    ) -> None:
        self._components = (reader, in_flight, control, shards, intake)

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _RecordSourceSlot:
        """Make the slot of a worker."""
        return _RecordSourceSlot(*self._components, worker_index, worker_count)


class _RecordSourceSlot(StatelessSourcePartition[Keyed]):
    """Gives records to its engine thread; a thread that has nothing to do sleeps here until a bell rings.

    Everything that a thread may have to do begins in this process with a ring: the reader has read records, or a chain
    has finished some. So no step polls, and an idle engine costs nothing.
    """

    def __init__(
        self,
        reader: Reader,
        in_flight: InFlight,
        control: StopSignal,
        shards: int,
        intake: ExecutorAdmission | None,
        index: int,
        count: int,
    ) -> None:
        self._reader = reader
        self._in_flight = in_flight
        self._control = control
        self._shards = shards
        self._bell = in_flight.engine.bell()
        self._intake = intake
        self._index = index
        self._count = count
        self._thread = threading.get_ident()
        self._chunk = _FIRST_CHUNK
        self._woke_at = 0.0

    def next_batch(self) -> list[Keyed]:
        control = self._control
        control.turns[self._thread] = control.turns.get(self._thread, 0) + 1
        if not control.stopping and (batches := self._pop() or self._pop_later()):
            return self._keyed(batches)
        if control.stopping:
            self._in_flight.end()
            if self._in_flight.records <= control.held or control.budget_s == 0.0:
                raise StopIteration
            self._sleep()
        return []

    def _pop(self) -> list[list[Record]]:
        """Take records that are there and that there is room for."""
        limit = min(self._chunk, self._in_flight.room - self._reader.uncommitted)
        if self._intake is not None:
            limit = min(limit, self._intake.room())
        self._in_flight.engine.for_room = limit <= 0
        batches = self._reader.pop(limit, self._index, self._count) if limit > 0 else []
        if not batches:
            if self._reader.exhausted and self._in_flight.records == 0:
                self._control.stop()
            return []
        if self._intake is not None:
            self._intake.take(sum(map(len, batches)))
        self._chunk = min(_CHUNK, 2 * self._chunk)
        return batches

    def _pop_later(self) -> list[list[Record]]:
        """Sleep until something has happened and try again."""
        if self._control.stopping:
            return []
        self._sleep()
        return [] if self._control.stopping else self._pop()

    def _sleep(self) -> None:
        """Sleep until a bell rings, and a moment longer where that happens often."""
        if self._in_flight.records == 0:
            self._bell.wait(_IDLE_PAUSE_S)
        else:
            self._bell.wait(_PAUSE_S if self._count == 1 else _SHARED_PAUSE_S)
        early_s = self._woke_at + _TURN_S - time.monotonic()
        if early_s > 0:
            time.sleep(early_s)
        self._woke_at = time.monotonic()

    def _keyed(self, batches: list[list[Record]]) -> list[Keyed]:
        shards = self._shards
        if shards == 1:
            return [("0", Chunk(batches[0] if len(batches) == 1 else [r for records in batches for r in records]))]
        return [(shard_key(records[0].topic_partition, shards), Chunk(records)) for records in batches]

    def next_awake(self) -> datetime | None:
        return _NOW
