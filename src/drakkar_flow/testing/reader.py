"""A source in memory: a log of records by partition, assignments, and committed offsets."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from drakkar_flow.model.codec import encode
from drakkar_flow.model.record import Lane, Record
from drakkar_flow.runtime.buffers import Buffers
from drakkar_flow.runtime.flight import Assignment, Flight
from drakkar_flow.runtime.source import ReaderStatistics
from drakkar_flow.runtime.tracker import Watermark

__all__ = ["MemoryReader"]

_BOUND = 1 << 40  # what is in memory already needs no bound


class MemoryReader:
    """Gives out records as a consumer group's member would, and keeps what is committed. Thread-safe.

    `values` are dealt to `partitions` partitions of `topic` in turn, with offsets from 0: bytes as
    they are, text as UTF-8, anything else as JSON. A Record instead of a value says itself where it
    stands. `committed` holds the next offset to read by partition; `commits` every commit in order.
    """

    def __init__(self, values: Iterable[Any], flight: Flight, *, partitions: int = 1, topic: str = "input") -> None:
        self._flight = flight
        self._topic = topic
        self._count = partitions
        self._lock = threading.RLock()
        self._buffers = Buffers(flight, _BOUND, _BOUND)
        self._log: dict[Lane, list[Record]] = {(topic, number): [] for number in range(partitions)}
        self._dealt = 0
        self._ended = False
        self.committed: dict[Lane, int] = {}
        self.commits: list[Watermark] = []
        self.put(values)

    @property
    def lanes(self) -> list[Lane]:
        """Every partition there is, assigned or not."""
        return list(self._log)

    def end_of(self, lane: Lane) -> int:
        """The offset after the last record of a partition, 0 when it has none."""
        log = self._log[lane]
        return log[-1].offset + 1 if log else 0

    # --- what a test does -----------------------------------------------------------------------

    def put(self, values: Iterable[Any]) -> None:
        """Write to the log; what belongs to an assigned partition can be read at once."""
        with self._lock:
            for value in values:
                if isinstance(value, Record):
                    record = value
                else:
                    lane = (self._topic, self._dealt % self._count)
                    record = Record(*lane, self.end_of(lane), encode(value))
                    self._dealt += 1
                self._log.setdefault(record.lane, []).append(record)
                self._read([record])

    def end(self) -> None:
        """Say that nothing more will be put."""
        self._ended = True

    def assign(self, lanes: Iterable[Lane] | None = None) -> None:
        """Begin a new assignment of `lanes`, by default of all: they are read from what is committed."""
        with self._lock:
            for lane in self.lanes if lanes is None else lanes:
                self._buffers.assign([lane])
                start = self.committed.get(lane, 0)
                self._read([record for record in self._log[lane] if record.offset >= start])

    def revoke(self, lanes: Iterable[Lane] | None = None, drain_s: float = 0.0) -> int:
        """Take `lanes` away, by default all; returns how many records had not finished after `drain_s`."""
        taken = self._buffers.take_away(self.lanes if lanes is None else lanes)
        assignments = [partition.assignment for partition in taken]
        left = self._flight.wait_idle(assignments, drain_s)
        self._flight.fence(assignments)
        return left

    # --- what the flow does ---------------------------------------------------------------------

    def start(self) -> None:
        """Assign every partition."""
        self.assign()

    @property
    def uncommitted(self) -> int:
        """Nothing: a commit to memory is there at once."""
        return 0

    def pop(self, limit: int, slot: int, slots: int) -> list[list[Record]]:
        """Give at most `limit` records."""
        with self._lock:
            return self._buffers.pop(limit, slot, slots)

    @property
    def exhausted(self) -> bool:
        """Whether `end` was called and everything assigned was given out."""
        with self._lock:
            return self._ended and not any(partition.buffer for partition in self._buffers.partitions())

    def commit(self, watermarks: list[Watermark]) -> None:
        """Commit at once what belongs to a present assignment."""
        with self._lock:
            assignments = self._buffers.assignments()
            for watermark in watermarks:
                if assignments.get(watermark.lane) == watermark.epoch:
                    self.committed[watermark.lane] = watermark.offset
                    self.commits.append(watermark)

    def scattered(self, spans: Mapping[Assignment, int]) -> None:
        """Give out nothing more of a partition whose finished records are scattered too widely."""
        with self._lock:
            self._buffers.scattered(spans)

    def close(self) -> None:
        """Nothing is left to do."""

    def statistics(self) -> ReaderStatistics:
        """What waits to be given out, and how far the commits are behind."""
        with self._lock:
            queued = {partition.lane: len(partition.buffer) for partition in self._buffers.partitions()}
            return ReaderStatistics(queued, {lane: self.end_of(lane) - self.committed.get(lane, 0) for lane in queued})

    def _read(self, records: list[Record]) -> None:
        for stored in records:
            partition = self._buffers.get(stored.lane)
            if partition is None:
                return
            record = Record(
                stored.topic,
                stored.partition,
                stored.offset,
                stored.value,
                stored.key,
                stored.timestamp,
                stored.headers,
                epoch=partition.epoch,
                previous=partition.last_offset,
                read_at=time.monotonic(),
            )
            partition.last_offset = stored.offset
            self._buffers.append(partition, [record])
