"""The dead letter step: writes failures to the dead letter topic, or stalls where it can't."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from drakkar_flow.model.outcome import Ack, AckStatus, Failure
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events import DeadLetterFailed, DeadLettersWritten
from drakkar_flow.runtime.backoff import Backoff
from drakkar_flow.runtime.bridge import Bridge
from drakkar_flow.runtime.calls import Calls
from drakkar_flow.runtime.flight import Flight
from drakkar_flow.runtime.step import Worker

__all__ = ["DeadLetterWorker", "DeadLetterWriter"]

_BATCH = 500


class DeadLetterWriter(Protocol):
    """Where dead letters go."""

    async def connect(self) -> None:
        """Open what `write` needs; raises StartupError with what is missing."""
        ...

    async def close(self) -> None:
        """Flush and let go of everything; safe to call twice."""
        ...

    async def write(self, failures: Sequence[Failure]) -> None:
        """Write all of `failures`; returns when the broker has acknowledged them, raises otherwise."""
        ...


class DeadLetterWorker(Worker):
    """Acknowledges a failure's records once its letter is written.

    While the topic can't be written to, the letters are tried again for ever with back-off: their
    offsets stay and the intake fills up, visibly. With `drop` they are given up after one try.
    """

    def __init__(
        self, bridge: Bridge, bus: Bus, flight: Flight, writer: DeadLetterWriter, backoff: Backoff, *, drop: bool
    ) -> None:
        super().__init__(bridge)
        self._bus = bus
        self._flight = flight
        self._writer = writer
        self._backoff = backoff
        self._drop = drop
        self._waiting: deque[Failure] = deque()
        self._busy = False
        self._calls = Calls(bridge)

    def accept(self, items: list[Failure]) -> None:
        """Queue letters; they are written one batch at a time."""
        self.open += len(items)
        self._waiting.extend(items)
        self._pump()

    def _pump(self) -> None:
        if self._busy or not self._waiting:
            return
        self._busy = True
        batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]

        def written() -> None:
            self._busy = False
            self.open -= len(batch)
            self._pump()

        self._calls.run(self._to_the_end(batch), written)

    async def _to_the_end(self, batch: list[Failure]) -> None:
        attempt = 0
        while batch := self._unfenced(batch):
            attempt += 1
            try:
                await self._writer.write(batch)
            except Exception as exc:
                self._bus.emit(DeadLetterFailed(len(batch), str(exc), self._drop))
                if not self._drop:
                    await asyncio.sleep(self._backoff.delay_s(attempt, random.random))
                    continue
            else:
                self._bus.emit(DeadLettersWritten(len(batch)))
            self._return(batch, AckStatus.DEAD)
            return

    def _unfenced(self, batch: list[Failure]) -> list[Failure]:
        """Drop what belongs to revoked partitions only; its records are their next owner's."""
        flight = self._flight
        if not flight.has_fences:
            return batch
        kept = []
        for failure in batch:
            if all(flight.is_fenced(record) for record, _ in failure.holds):
                self._return([failure], AckStatus.FENCED)
            else:
                kept.append(failure)
        return kept

    def _return(self, batch: list[Failure], status: AckStatus) -> None:
        for failure in batch:
            for record, credit in failure.holds:
                self.ack(Ack(record, credit, status))
