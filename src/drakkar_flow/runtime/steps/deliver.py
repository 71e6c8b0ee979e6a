"""The deliver step: one loop for every sink. Batches, retries with back-off, then acks or failures."""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from drakkar_flow.errors import BatchFailed, RetryAfter, SinkRejected
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.kernel.retry import RetryBound
from drakkar_flow.model.outcome import Ack, AckStatus, Delivery, FailureKind
from drakkar_flow.model.payload import DeliveryAction, DeliveryError
from drakkar_flow.observe.about import NOTHING
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events import (
    DeliveriesFailed,
    DeliveriesSkipped,
    DeliveriesSuppressed,
    DeliveriesWritten,
    DeliveryRetried,
    HookRan,
)
from drakkar_flow.runtime.bridge import Bridge
from drakkar_flow.runtime.failures import about, by_lane, describe, failure_of, is_cancelled
from drakkar_flow.runtime.flight import Flight
from drakkar_flow.runtime.steps.circuit import Circuit
from drakkar_flow.runtime.steps.step import Worker
from drakkar_flow.runtime.steps.writes import Writes
from drakkar_flow.sinks.base import Sink

__all__ = ["DeliverSettings", "DeliverWorker"]

_LONGEST_PAUSE_S = 300.0
"""No target may ask for more."""


@dataclass(frozen=True, slots=True)
class DeliverSettings:
    """One sink's name, limits and retry policy; `timeout_s` is None for a sink that keeps its time itself.

    `bound` is that of RETRY, which `on_error` may answer when a batch has had its `attempts`.
    """

    kind: str
    name: str
    max_in_flight: int
    max_batch: int
    attempts: int
    backoff: Backoff
    bound: RetryBound = field(default_factory=RetryBound)
    timeout_s: float | None = None
    on_error: Callable[..., Any] | None = None


class _Written(NamedTuple):
    """What one write did: what is durable, what may be tried again, what was refused for good."""

    done: list[Delivery]
    again: list[Delivery]
    rejected: list[tuple[Delivery, Exception]]
    error: Exception | None


@dataclass(slots=True)
class _Tries:
    """What was done for a batch so far, all its rounds together."""

    attempts: int = 0
    retries: int = 0
    first_failure: float = 0.0

    def failed(self, now: float) -> None:
        if not self.attempts:
            self.first_failure = now
        self.attempts += 1


class DeliverWorker(Worker):
    """Writes deliveries to a sink and acknowledges what is durable.

    Payloads keep their order as long as writes succeed; those of a batch that is tried again may be
    overtaken when the sink allows more than one write at a time.
    """

    def __init__(
        self, bridge: Bridge, bus: Bus, flight: Flight, sink: Sink, settings: DeliverSettings, circuit: Circuit
    ) -> None:
        super().__init__(bridge)
        self._bus = bus
        self._flight = flight
        self._settings = settings
        self._circuit = circuit
        self._writes = Writes(sink, settings.max_in_flight, settings.timeout_s)
        self._waiting: deque[Delivery] = deque()
        self._writing = 0
        self._pumping = False

    @property
    def calls(self) -> list[tuple[asyncio.Task[Any] | None, object]]:
        """The writes that have not ended, then what waits for its next one."""
        writes = self._writes.open
        known = {id(batch) for _, batch in writes}
        return [*writes, *(call for call in super().calls if id(call[1]) not in known)]

    def accept(self, items: list[Delivery]) -> None:
        """Queue deliveries and start what may be written now."""
        self.open += len(items)
        self._waiting.extend(items)
        self._pump()

    def _pump(self) -> None:
        if self._pumping:  # a write that did not wait has ended inside the loop below, which goes on
            return
        self._pumping = True
        waiting = self._waiting
        while waiting and self._writing < self._settings.max_in_flight:
            if len(waiting) <= self._settings.max_batch:
                batch = list(waiting)
                waiting.clear()
            else:
                batch = [waiting.popleft() for _ in range(self._settings.max_batch)]
            self._writing += 1
            size = len(batch)

            def written(size: int = size) -> None:
                self._writing -= 1
                self.open -= size
                self._pump()

            self._calls.run(self._to_the_end(batch), written, batch)
        self._pumping = False

    async def _to_the_end(self, batch: list[Delivery]) -> None:
        """Write a batch until each of its payloads is durable, refused or given up."""
        tries = _Tries()
        while batch:
            ticket = await self._circuit.admission()
            if ticket is None:
                self._bury(self._unfenced(batch), self._circuit.refusal(), 0)
                return
            batch = await self._round(batch, ticket, tries)

    async def _round(self, batch: list[Delivery], ticket: int, tries: _Tries) -> list[Delivery]:
        """Try a batch as often as the sink's settings say; returns what is to be tried from the start."""
        settings, circuit = self._settings, self._circuit
        attempt, works = 0, False
        while batch := self._unfenced(batch):
            attempt += 1
            started = time.monotonic()
            written = await self._write(batch)
            if written.done:
                works = True
                self._acknowledge(written.done)
                took_s = time.monotonic() - started
                self._bus.emit(DeliveriesWritten(settings.kind, settings.name, len(written.done), took_s))
            batch, error = written.again, written.error
            if not batch and works:
                circuit.succeed(ticket)
            for delivery, cause in written.rejected:
                await self._refused(delivery, cause, tries.attempts + 1)
            if not batch or error is None:
                break
            tries.failed(asyncio.get_running_loop().time())
            if attempt >= settings.attempts:
                return await self._failed(batch, error, tries, ticket)
            await self._pause(batch, error, tries.attempts)
        circuit.release(ticket)
        return []

    async def _write(self, batch: list[Delivery]) -> _Written:
        """Write once and sort the batch by what became of it."""
        try:
            await self._writes.write(batch)
        except BatchFailed as exc:
            if not all(0 <= index < len(batch) for index in exc.failures):
                return _Written([], batch, [], exc)  # it names what was not in the batch: believe none of it
            done = [delivery for index, delivery in enumerate(batch) if index not in exc.failures]
            failed = [(batch[index], cause) for index, cause in exc.failures.items()]
            rejected = [pair for pair in failed if isinstance(pair[1], SinkRejected)]
            again = [delivery for delivery, cause in failed if not isinstance(cause, SinkRejected)]
            return _Written(done, again, rejected, exc)
        except SinkRejected as exc:
            return _Written([], [], [(delivery, exc) for delivery in batch], exc)
        except Exception as exc:
            return _Written([], batch, [], exc)
        return _Written(batch, [], [], None)

    async def _pause(self, batch: list[Delivery], error: Exception, attempt: int) -> None:
        settings = self._settings
        delay_s = _asked_s(error)
        if delay_s is None:
            delay_s = settings.backoff.delay_s(attempt, random.random)
        size, text = len(batch), describe(error)
        self._bus.emit(DeliveryRetried(settings.kind, settings.name, size, attempt, delay_s, text, about(batch)))
        await asyncio.sleep(delay_s)

    def _acknowledge(self, batch: list[Delivery]) -> None:
        acks = self._pending().acks
        for delivery in batch:
            for record, credit in delivery.holds:
                acks.append(Ack(record, credit))

    def _unfenced(self, batch: list[Delivery]) -> list[Delivery]:
        """Drop what belongs to revoked partitions only; its records are their next owner's."""
        flight = self._flight
        if not flight.has_fences:
            return batch
        kept, dropped = [], []
        for delivery in batch:
            if all(flight.is_fenced(record) for record, _ in delivery.holds):
                dropped.append(delivery)
                for record, credit in delivery.holds:
                    self.ack(Ack(record, credit, AckStatus.FENCED))
            else:
                kept.append(delivery)
        if dropped:
            self._bus.emit(DeliveriesSuppressed(len(dropped), by_lane(dropped), about(dropped)))
        return kept

    async def _failed(self, batch: list[Delivery], error: Exception, tries: _Tries, ticket: int) -> list[Delivery]:
        """Decide about a batch that is out of attempts; returns it when it is to be tried from the start."""
        settings, circuit = self._settings, self._circuit
        if circuit.waits and (settings.on_error is None or not circuit.closed):
            circuit.fail(ticket, describe(error))
            if circuit.closed:
                await self._pause(batch, error, tries.attempts)
            return batch
        action = await self._decide(batch, error)
        elapsed_s = asyncio.get_running_loop().time() - tries.first_failure
        spent = settings.bound.spent(tries.retries, elapsed_s) if action == DeliveryAction.RETRY else ""
        if action == DeliveryAction.RETRY and not spent:
            circuit.release(ticket)
            tries.retries += 1
            await self._pause(batch, error, tries.attempts)
            return batch
        if action == DeliveryAction.SKIP:
            circuit.release(ticket)
            self._skip(batch)
            return []
        if action is None:  # nobody decided: a probe is void then, for the next batch to be one
            circuit.release(ticket)
        circuit.fail(ticket, describe(error))
        reason = f"{describe(error)}; RETRY of on_delivery_error is bounded, and given up {spent}" if spent else ""
        self._bury(batch, error, tries.attempts, reason, decided=settings.on_error is not None)
        return []

    async def _refused(self, delivery: Delivery, error: Exception, attempts: int) -> None:
        """Decide about a payload that the target does not take: it is dropped or given up, never tried again."""
        if await self._decide([delivery], error) == DeliveryAction.SKIP:
            self._skip([delivery])
        else:
            self._bury([delivery], error, attempts, decided=self._settings.on_error is not None)

    def _skip(self, batch: list[Delivery]) -> None:
        self._bus.emit(DeliveriesSkipped(self._settings.kind, self._settings.name, len(batch), about(batch)))
        for delivery in batch:
            for record, credit in delivery.holds:
                self.ack(Ack(record, credit, AckStatus.SKIPPED))

    def _bury(
        self, batch: list[Delivery], error: Exception, attempts: int, reason: str = "", *, decided: bool = False
    ) -> None:
        """Make failures of a batch: dead letters where that was `decided`, else what the flow's route says."""
        if not batch:
            return
        settings = self._settings
        text = reason or describe(error)
        self._bus.emit(DeliveriesFailed(settings.kind, settings.name, len(batch), text, attempts, about(batch)))
        for delivery in batch:
            stage = f"sink-{settings.kind}-{settings.name}"
            failure = failure_of(FailureKind.SINK, stage, error, delivery.holds, delivery.task_id)
            failure.payload = delivery.payload
            failure.sink_type = settings.kind
            failure.sink_name = settings.name
            failure.attempts = attempts
            failure.to_dlq = decided
            self.fail(failure)

    async def _decide(self, batch: list[Delivery], error: Exception) -> DeliveryAction | None:
        """Ask `on_delivery_error`, DLQ where there is none; None when it could not answer."""
        if self._settings.on_error is None:
            return DeliveryAction.DLQ
        started = time.monotonic()
        problem: BaseException | None = None
        action: DeliveryAction | None = None
        seen = DeliveryError(
            sink_name=self._settings.name,
            sink_type=self._settings.kind,
            error=str(error),
            payloads=[delivery.payload for delivery in batch],
        )
        try:
            answer = self._settings.on_error(seen)
            action = DeliveryAction(await answer if inspect.isawaitable(answer) else answer)
        except BaseException as exc:  # a hook that raises must not lose payloads
            if is_cancelled():
                raise
            problem = exc
        text = f"on_delivery_error: {describe(problem)}" if problem else ""
        concerned = about(batch) if problem else NOTHING
        self._bus.emit(HookRan("on_delivery_error", time.monotonic() - started, text, problem, concerned))
        return action


def _asked_s(error: Exception) -> float | None:
    """The longest pause that the target of a failed write asked for, if it asked for any."""
    causes = error.failures.values() if isinstance(error, BatchFailed) else (error,)
    asked = [cause.delay_s for cause in causes if isinstance(cause, RetryAfter)]
    return min(max(0.0, *asked), _LONGEST_PAUSE_S) if asked else None
