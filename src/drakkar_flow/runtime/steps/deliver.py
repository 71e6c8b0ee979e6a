"""Deliver step: one loop for every sink. Batches, retries with back-off, then acks or failures."""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

from drakkar_flow.errors import SinkMisconfigured, SinkRejected
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.kernel.retry import RetryBound
from drakkar_flow.kinds.sink import Sink
from drakkar_flow.model.outcome import AckStatus, Delivery, FailureKind
from drakkar_flow.model.payload import DeliveryAction, DeliveryError
from drakkar_flow.observe.events.context import NO_CONTEXT
from drakkar_flow.observe.events.hooks import HookRan
from drakkar_flow.observe.events.sinks import DeliveriesFailed, DeliveriesSkipped, DeliveriesWritten, DeliveryRetried
from drakkar_flow.runtime.failures import about, describe, failure_of, is_cancelled, stack_of
from drakkar_flow.runtime.steps.circuit import Circuit
from drakkar_flow.runtime.steps.context import StepContext
from drakkar_flow.runtime.steps.fates import Fates, asked_pause_s, fates_of, is_outage
from drakkar_flow.runtime.steps.isolate import isolated
from drakkar_flow.runtime.steps.step import AsyncStep, tokens_of
from drakkar_flow.runtime.steps.writes import Writes

__all__ = ["DeliverSettings", "DeliverStep"]

_PATIENCE_ROUNDS = 5
"""Times a payload is held, with `when_open: wait`, if the target asks for time while it takes others."""


@dataclass(frozen=True, slots=True)
class DeliverSettings:
    """One sink's name, limits and retry policy; `timeout_s` is None for a sink that keeps its time itself.

    `bound` limits the RETRY answers of `on_error` after a batch has had its `attempts`.
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


@dataclass(slots=True)
class _Tries:
    """Attempts at a batch so far, all its rounds together."""

    attempts: int = 0
    rounds: int = 0
    retries: int = 0
    first_failure: float = 0.0
    wrote: bool = False
    """True if the target took any payload of the batch."""
    causes: Mapping[int, Exception] = field(default_factory=dict)  # of the last write, by the id of the delivery

    def failed(self, now: float) -> None:
        if not self.attempts:
            self.first_failure = now
        self.attempts += 1


class DeliverStep(AsyncStep[Delivery, Any]):
    """Writes deliveries to a sink and acknowledges durable ones.

    Payloads keep their order as long as writes succeed. The payloads of a batch that is tried again may be overtaken if
    the sink allows more than one write at a time.
    """

    def __init__(
        self, context: StepContext, step_id: str, sink: Sink, settings: DeliverSettings, circuit: Circuit
    ) -> None:
        super().__init__(context, step_id)
        self._stage = f"sink-{settings.kind}-{settings.name}"
        self._settings = settings
        self._circuit = circuit
        self._writes = Writes(sink, settings.max_in_flight, settings.timeout_s)
        self._waiting: deque[Delivery] = deque()
        self._writing = 0
        self._pumping = False

    @property
    def calls(self) -> list[tuple[asyncio.Task[Any] | None, object]]:
        """Return the writes that have not ended, then the batches that wait for their next one."""
        writes = self._writes.open
        known = {id(batch) for _, batch in writes}
        return [*writes, *(call for call in super().calls if id(call[1]) not in known)]

    def accept(self, items: list[Delivery]) -> None:
        """Queue deliveries and start the writes that may start now."""
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
            sizes = [len(batch)]
            self._calls.run(self._to_the_end(batch, sizes), partial(self._written, sizes), batch)
        self._pumping = False

    def _written(self, sizes: list[int]) -> None:
        self._writing -= 1
        self.open -= sum(sizes)
        self._pump()

    async def _to_the_end(self, batch: list[Delivery], sizes: list[int]) -> None:
        """Write a batch until each payload is durable, refused or given up; `sizes` gets those of joining payloads."""
        tries = _Tries()
        while batch:
            ticket = await self._circuit.admission()
            if ticket is None:
                self._give_up(self.drop_fenced(batch), self._circuit.refusal(), tries, attempts=0)
                return
            batch = await self._round(batch, ticket, tries)
            tries.rounds += 1
            if batch and self._circuit.waits:
                batch = batch + self._neighbours(len(batch), sizes)

    def _neighbours(self, count: int, sizes: list[int]) -> list[Delivery]:
        """Return the deliveries behind `count` payloads that keep failing: if they can be written, the sink works."""
        room = max(0, self._settings.max_batch - count)
        found = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        sizes.append(len(found))
        return found

    async def _round(self, batch: list[Delivery], ticket: int, tries: _Tries) -> list[Delivery]:
        """Try a batch as often as the sink's settings allow; returns the deliveries to try from the start."""
        circuit = self._circuit
        attempt, works = 0, False
        later: list[Delivery] = []
        while batch := self.drop_fenced(batch):
            attempt += 1
            successes = circuit.successes
            fates = await self._write(batch)
            tries.wrote = tries.wrote or bool(fates.done)
            elsewhere = circuit.successes > successes
            works = works or fates.proved
            if fates.done and (fates.proved or not fates.again):
                circuit.succeed(ticket)
            batch, error = fates.again, fates.error
            later += await self._refused(fates.refused, tries)
            if not batch or error is None:
                break
            tries.failed(asyncio.get_running_loop().time())
            if attempt >= self._settings.attempts or isinstance(error, SinkMisconfigured):
                tries.causes = fates.causes
                return later + await self._failed(batch, error, tries, ticket, works=works or elsewhere)
            await self._pause(batch, error, tries.attempts)
        circuit.release(ticket)
        return later

    async def _write(self, batch: list[Delivery]) -> Fates:
        """Write a batch, in parts if it fails as a whole because of one of its payloads."""
        fates = await self._write_once(batch)
        return await isolated(self._write_once, fates, self._has_no_fenced) if fates.suspect else fates

    async def _write_once(self, batch: list[Delivery]) -> Fates:
        """Write once and acknowledge durable deliveries."""
        started = time.monotonic()
        error: Exception | None = None
        try:
            await self._writes.write(batch)
        except Exception as exc:
            error = exc
        fates = fates_of(batch, error)
        if fates.done:
            self.ack(tokens_of(fates.done))
            if self._stage not in self._proof.works:
                self._proof.add(self._stage)
            took_s = time.monotonic() - started
            settings = self._settings
            self._bus.emit(DeliveriesWritten(settings.kind, settings.name, len(fates.done), took_s))
        return fates

    def _has_no_fenced(self, batch: list[Delivery]) -> bool:
        return not self._in_flight.has_fences or not any(map(self.is_fenced, batch))

    async def _pause(self, batch: list[Delivery], error: Exception, attempt: int) -> None:
        settings = self._settings
        delay_s = asked_pause_s(error)
        if delay_s is None:
            delay_s = settings.backoff.delay_s(attempt, random.random)
        size, text = len(batch), describe(error)
        self._bus.emit(DeliveryRetried(settings.kind, settings.name, size, attempt, delay_s, text, about(batch)))
        await asyncio.sleep(delay_s)

    async def _failed(
        self, batch: list[Delivery], error: Exception, tries: _Tries, ticket: int, *, works: bool
    ) -> list[Delivery]:
        """Decide about a batch that is out of attempts; returns it if it must be tried from the start.

        `works` is True if the sink wrote others meanwhile: then the batch is to blame, not the sink.
        """
        settings, circuit = self._settings, self._circuit
        to_blame = works and (tries.rounds >= _PATIENCE_ROUNDS or not is_outage(error))
        if circuit.waits and not to_blame and (settings.on_error is None or not circuit.closed):
            circuit.fail(ticket, describe(error))
            if circuit.closed:
                await self._pause(batch, error, tries.attempts)
            return batch
        action = await self._decide(batch, error)
        spent = self._spent(tries) if action == DeliveryAction.RETRY else ""
        if action == DeliveryAction.RETRY and not spent:
            circuit.release(ticket)
            tries.retries += 1
            await self._pause(batch, error, tries.attempts)
            return batch
        if action == DeliveryAction.SKIP:
            circuit.release(ticket)
            self._skip(batch)
            return []
        if action is None or works:  # undecided, or no evidence about the sink: a probe is void then
            circuit.release(ticket)
        if not works:
            circuit.fail(ticket, describe(error))
        decided = settings.on_error is not None
        self._give_up(batch, error, tries, spent=spent, decided=decided, causes=tries.causes)
        return []

    def _spent(self, tries: _Tries) -> str:
        """Return the moment of the end of RETRY in words; empty while there is another try."""
        return self._settings.bound.spent(tries.retries, asyncio.get_running_loop().time() - tries.first_failure)

    async def _refused(self, refused: list[tuple[Delivery, Exception]], tries: _Tries) -> list[Delivery]:
        """Decide about payloads that failed permanently, one by one; returns those to be tried from the start.

        Payloads that the target refused are dropped or given up. RETRY holds only for other errors, for example a
        TypeError.
        """
        later: list[Delivery] = []
        for delivery, error in refused:
            action, spent = await self._decide([delivery], error), ""
            if action == DeliveryAction.RETRY and not isinstance(error, SinkRejected | SinkMisconfigured):
                spent = self._spent(tries) if tries.attempts else ""
                if not spent:
                    later.append(delivery)
                    continue
            if action == DeliveryAction.SKIP:
                self._skip([delivery])
            else:
                decided = self._settings.on_error is not None
                self._give_up([delivery], error, tries, attempts=tries.attempts + 1, spent=spent, decided=decided)
        if later:
            tries.failed(asyncio.get_running_loop().time())
            tries.retries += 1
            await self._pause(later, refused[-1][1], tries.attempts)
        return later

    def _skip(self, batch: list[Delivery]) -> None:
        self._bus.emit(DeliveriesSkipped(self._settings.kind, self._settings.name, len(batch), about(batch)))
        self.ack(tokens_of(batch), AckStatus.SKIPPED)

    def _give_up(
        self,
        batch: list[Delivery],
        error: Exception,
        tries: _Tries,
        *,
        attempts: int | None = None,
        spent: str = "",
        decided: bool = False,
        causes: Mapping[int, Exception] = MappingProxyType({}),
    ) -> None:
        """Make failures of a batch: dead letters if that was `decided`, else by the policy of the flow's route.

        `causes` has the payloads' own causes, by the id of the delivery, where they are known.
        """
        if not batch:
            return
        if tries.wrote:
            self._proof.add(self._stage)
        mark = self._proof.doubt(self._stage)  # a write that ends before the failures are settled refutes them
        attempts = tries.attempts if attempts is None else attempts
        settings = self._settings
        text = self._with_name(describe(error))
        if spent:
            text += f"; RETRY of on_delivery_error is bounded, and given up {spent}"
        self._bus.emit(DeliveriesFailed(settings.kind, settings.name, len(batch), text, attempts, about(batch)))
        stacks: dict[int, str] = {}  # by the id of the exception, which most of a batch share
        for delivery in batch:
            cause = causes.get(id(delivery), error)
            stack = stacks[id(cause)] = stacks.get(id(cause)) or stack_of(cause)
            failure = failure_of(FailureKind.SINK, self._stage, cause, delivery.tokens, delivery.task_id, stack)
            failure.error = self._with_name(failure.error)
            failure.payload = delivery.payload
            failure.sink_type = settings.kind
            failure.sink_name = settings.name
            failure.attempts = attempts
            failure.to_dlq = decided
            failure.refuted, failure.mark = tries.wrote, mark
            self.fail(failure)

    def _with_name(self, text: str) -> str:
        """Return an error's text with this sink's key: sinks know their kind, and write `*` for the name."""
        kind, name = self._settings.kind, self._settings.name
        return text.replace(f"sinks.{kind}.*", f"sinks.{kind}.{name}")

    async def _decide(self, batch: list[Delivery], error: Exception) -> DeliveryAction | None:
        """Ask `on_delivery_error`, DLQ where there is none; None if it could not answer."""
        if self._settings.on_error is None:
            return DeliveryAction.DLQ
        started = time.monotonic()
        problem: BaseException | None = None
        action: DeliveryAction | None = None
        seen = DeliveryError(
            sink_name=self._settings.name,
            sink_type=self._settings.kind,
            error=self._with_name(describe(error)),
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
        concerned = about(batch) if problem else NO_CONTEXT
        self._bus.emit(HookRan("on_delivery_error", time.monotonic() - started, text, problem, concerned))
        return action
