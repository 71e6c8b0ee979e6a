"""The end of the dataflow: acknowledgements become watermarks, watermarks become commits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from bytewax.outputs import DynamicSink, StatelessSinkPartition

from drakkar_flow.kernel.spans import Spans
from drakkar_flow.model.record import Lane
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.records import RecordsFinished
from drakkar_flow.runtime.chunk import Keyed
from drakkar_flow.runtime.flight import Flight
from drakkar_flow.runtime.reader import Reader
from drakkar_flow.runtime.tracker import Settled, Tracker

__all__ = ["CommitSink", "Track"]


class Track:
    """The tracker of one process, shared by the engine's workers and whoever commits. Thread-safe."""

    def __init__(self) -> None:
        self._tracker = Tracker()
        self._lock = threading.Lock()

    def step(self, batch: list[Keyed]) -> list[Settled]:
        """Feed acknowledgements to the tracker: the batch function of the `track` step."""
        acks = [ack for _, chunk in batch for ack in chunk.acks]
        if not acks:
            return []
        with self._lock:
            return [self._tracker.settle(acks)]

    def beyond(self, lane: Lane, epoch: int) -> Spans:
        """What an assignment has finished above its watermark."""
        with self._lock:
            return self._tracker.beyond(lane, epoch)


class CommitSink(DynamicSink[Settled]):
    """The only Bytewax output: notes what may be committed, then frees its place in flight.

    `ended` is called once when the dataflow has ended on every worker of this process and everything
    before it was taken in.
    """

    def __init__(self, reader: Reader, flight: Flight, bus: Bus, ended: Callable[[], None]) -> None:
        self._parts = (reader, flight, bus)
        self._ended = ended
        self._lock = threading.Lock()
        self._open = 0

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Committer:
        """Make the committer of a worker."""
        with self._lock:
            self._open += 1
        return _Committer(*self._parts, self._closed)

    def _closed(self) -> None:
        with self._lock:
            self._open -= 1
            last = self._open == 0
        if last:
            self._ended()


class _Committer(StatelessSinkPartition[Settled]):
    def __init__(self, reader: Reader, flight: Flight, bus: Bus, closed: Callable[[], None]) -> None:
        self._reader = reader
        self._flight = flight
        self._bus = bus
        self._closed = closed

    def write_batch(self, items: list[Settled]) -> None:
        for settled in items:
            # Noted before the place in flight is freed: whoever waits for an empty flight commits it.
            if settled.watermarks:
                self._reader.commit(settled.watermarks)
                for lane, epoch, offset in settled.watermarks:
                    self._flight.advance((lane, epoch), offset)
            if settled.scattered:
                self._reader.scattered(settled.scattered)
            for (lane, epoch), (count, size) in settled.finished.items():
                self._flight.release((lane, epoch), count, size)
            if settled.finished:
                latency_s = time.monotonic() - settled.oldest_read_at
                self._bus.emit(RecordsFinished(settled.done, settled.skipped, settled.dead, latency_s))

    def close(self) -> None:
        self._closed()
