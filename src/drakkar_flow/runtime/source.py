"""Record source of Bytewax: pops records that a reader has buffered; never touches the network."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from zlib import crc32

from bytewax.inputs import DynamicSource, StatelessSourcePartition

from drakkar_flow.executor.base import Executor
from drakkar_flow.kernel.routing import home_key
from drakkar_flow.model.record import Record, TopicPartition
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.admission import AdmissionControl
from drakkar_flow.runtime.chunk import Chunk, Keyed
from drakkar_flow.runtime.reader import Reader
from drakkar_flow.runtime.stop_signal import StopSignal

__all__ = ["ExecutorAdmission", "RecordSource", "shard_key"]

_CHUNK = 1000  # records: large enough to make a step's fixed cost vanish, small enough to stay responsive
_FIRST_CHUNK = 100  # doubles from chunk to chunk: the cost and size of the results of a record are not known yet
_NOW = datetime(1970, 1, 1, tzinfo=UTC)  # a time that has passed: Bytewax calls again at once, where None makes it wait
_PAUSE_S = 0.02  # the longest sleep while records are in flight: the pace of the intake depends on time alone
_IDLE_PAUSE_S = 0.1  # the longest sleep otherwise; every cause to wake rings the bell, so this is for the watchdog
# In a cluster _PAUSE_S is the longest: the other processes wait for this one's turn at the end of each epoch.
_TURN_S = 0.001  # the least from one sleep's end to the next: a turn for every finished record would hold up the loop
_SHARED_PAUSE_S = 0.001  # the first of several engine threads or processes that exchange records, which rings no bell


class ExecutorAdmission:
    """Admission control of a running executor."""

    def __init__(self, intake: AdmissionControl, executor: Executor, in_flight: InFlight) -> None:
        self._intake = intake
        self._executor = executor
        self._in_flight = in_flight

    def room(self) -> int:
        """Return the number of records that may be read now."""
        now, executor = time.monotonic(), self._executor.statistics()
        load = executor.running + executor.waiting
        finished = self._in_flight.finished
        return self._intake.room(now=now, slots=executor.slots, load=load, finished=finished, ended=executor.ended)

    def take(self, count: int) -> None:
        """Count records that were read."""
        self._intake.take(count)


def shard_key(topic_partition: TopicPartition, shards: int) -> str:
    """Return the Bytewax key of all records of a partition.

    >>> shard_key(("in", 3), 1)
    '0'
    """
    return str(crc32(f"{topic_partition[0]}:{topic_partition[1]}".encode()) % shards)


class RecordSource(DynamicSource[Keyed]):
    """Bytewax source with one part per Bytewax worker; each serves a fixed share of any number of partitions.

    In a cluster of `processes` the records stay in the process that read them: their key is routed to this very worker.
    `durable` is called in every turn with the reader: a turn means that the rows taken before it are on disk. If
    processes exchange records, sleeps are short: items of another one ring no bell.
    """

    def __init__(
        self,
        reader: Reader,
        in_flight: InFlight,
        control: StopSignal,
        shards: int,
        intake: ExecutorAdmission | None = None,
        durable: Callable[[Reader], object] | None = None,
        processes: int = 1,
        *,
        exchanges: bool = False,
    ) -> None:
        self._components = (reader, in_flight, control, shards, intake, durable)
        self._processes = processes
        self._exchanges = exchanges and processes > 1

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _RecordSourceSlot:
        """Make the part of a Bytewax worker."""
        threads = worker_count // self._processes
        home = home_key(worker_index, worker_count) if threads == 1 else ""
        idle_s = _IDLE_PAUSE_S if self._processes == 1 else _PAUSE_S
        alone = threads == 1 and not self._exchanges
        return _RecordSourceSlot(*self._components, worker_index % threads, threads, home, idle_s, alone=alone)


class _RecordSourceSlot(StatelessSourcePartition[Keyed]):
    """Returns records to its engine thread; an idle thread sleeps here until a bell rings.

    Every cause for work of the thread rings the bell in this process: the reader has read records, or a chain has
    results. So no step polls, and an idle engine costs nothing.
    """

    def __init__(
        self,
        reader: Reader,
        in_flight: InFlight,
        control: StopSignal,
        shards: int,
        intake: ExecutorAdmission | None,
        durable: Callable[[Reader], object] | None,
        index: int,
        count: int,
        home: str,
        idle_s: float,
        *,
        alone: bool,
    ) -> None:
        self._alone = alone  # no other engine thread or process gives this one work
        self._home = home
        self._idle_s = idle_s
        self._reader = reader
        self._in_flight = in_flight
        self._control = control
        self._shards = shards
        self._bell = in_flight.engine.bell()
        self._intake = intake
        self._durable = durable
        self._index = index
        self._count = count
        self._thread = threading.get_ident()
        self._chunk = _FIRST_CHUNK
        self._gave = False  # in the last turn
        self._pause_s = _SHARED_PAUSE_S
        self._woke_at = 0.0

    def next_batch(self) -> list[Keyed]:
        control = self._control
        control.turns[self._thread] = control.turns.get(self._thread, 0) + 1
        if self._durable is not None:
            self._durable(self._reader)
        if self._gave and self._count > 1:
            self._in_flight.engine.wake()  # the exchange has delivered the last batch to the other threads
        self._gave = False
        if not control.stopping and (batches := self._pop() or self._pop_later()):
            self._gave = True
            return self._keyed(batches)
        if control.stopping:
            self._in_flight.end()
            if self._in_flight.working <= control.held or control.budget_s == 0.0:
                self._in_flight.source_ended = True
                raise StopIteration
            self._sleep()
        return []

    def _pop(self) -> list[list[Record]]:
        """Return buffered records, as many as admission control allows."""
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
        """Sleep until the bell rings and try again."""
        if self._control.stopping:
            return []
        self._sleep()
        return [] if self._control.stopping else self._pop()

    def _sleep(self) -> None:
        """Sleep until a bell rings, and a moment longer where that happens often."""
        longest_s = _PAUSE_S if self._in_flight.working else self._idle_s
        rang = self._bell.wait(longest_s if self._alone else min(self._pause_s, longest_s))
        self._pause_s = _SHARED_PAUSE_S if rang else min(2 * self._pause_s, longest_s)
        early_s = self._woke_at + _TURN_S - time.monotonic()
        if early_s > 0:
            time.sleep(early_s)
        self._woke_at = time.monotonic()

    def _keyed(self, batches: list[list[Record]]) -> list[Keyed]:
        shards = self._shards
        if shards == 1:
            return [
                (self._home, Chunk(batches[0] if len(batches) == 1 else [r for records in batches for r in records]))
            ]
        return [(shard_key(records[0].topic_partition, shards), Chunk(records)) for records in batches]

    def next_awake(self) -> datetime | None:
        return _NOW
