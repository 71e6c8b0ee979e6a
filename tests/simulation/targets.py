"""Targets of the simulation: sinks and dead letters, which outlive the processes, and their failures."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from drakkar_flow.config.sections.delivery import CircuitBreakerConfig, RetryConfig, SinkConfig
from drakkar_flow.errors import BatchFailed, SinkError, SinkRejected
from drakkar_flow.model.outcome import Delivery, Failure, FailureKind
from drakkar_flow.runtime.components import SinkComponent
from drakkar_flow.sinks.registry import SPECS
from simulation.facts import Facts, Place

__all__ = ["Payload", "SimulatedDeadLetters", "SimulatedSink", "chance_of"]

_DELAYS_S = (0.0, 0.0, 0.001, 0.02, 0.5)


def chance_of(what: str) -> float:
    """Return a number from 0 to 1 that depends on the text alone."""
    return int.from_bytes(blake2b(what.encode(), digest_size=6).digest(), "big") / (1 << 48)


class Payload:
    """Value of a record, or of several, on its way: where it comes from, and the name of what is owed."""

    __slots__ = ("name", "places")

    def __init__(self, places: tuple[Place, ...], name: str) -> None:
        self.places = places
        self.name = name

    def __repr__(self) -> str:
        return f"{self.name} of {', '.join(f'{place.partition}:{place.offset}' for place in self.places)}"


class SimulatedSink:
    """Takes payloads, all, some or none of a batch, and may fail after it took them. `trouble` is its probability."""

    def __init__(self, name: str, facts: Facts, trouble: float) -> None:
        self.name = name
        self.trouble = trouble
        self._facts = facts

    def component(self, max_in_flight: int, max_batch: int, retry: RetryConfig, when_open: Any) -> SinkComponent:
        """Return the sink as a component of a flow."""
        spec = replace(SPECS["kafka"], max_in_flight=max_in_flight, max_batch=max_batch)
        circuit = CircuitBreakerConfig(failure_threshold=3, cooldown_seconds=1.0, when_open=when_open)
        return SinkComponent(spec, self.name, SinkConfig(retry=retry, circuit_breaker=circuit), self)

    async def connect(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    async def write_batch(self, batch: Sequence[Delivery]) -> None:
        """Write payloads."""
        facts, chance, life = self._facts, self._facts.scheduler.chance, self._facts.life
        facts.scheduler.note("sink {}: {}", self.name, [delivery.payload.data for delivery in batch])
        for delivery in batch:
            if all(facts.is_fenced(place) for place in delivery.payload.data.places):
                raise facts.scheduler.fail(f"{delivery.payload.data} is written though its assignment has ended")
        if delay_s := chance.choice(_DELAYS_S):
            await asyncio.sleep(delay_s)
        if facts.life != life:
            await asyncio.Event().wait()
        failures: dict[int, Exception] = {}
        if chance.random() < self.trouble:
            fate = chance.random()
            if fate < 0.4:
                raise SinkError("down")
            if fate < 0.6:  # it took the batch, and the answer was lost
                self._take(batch, uncertain=True)
                raise SinkError("no answer")
            failures = {
                index: SinkRejected("refused") if chance.random() < 0.3 else SinkError("busy")
                for index in range(len(batch))
                if chance.random() < 0.5
            }
        self._take([delivery for index, delivery in enumerate(batch) if index not in failures])
        if failures:
            raise BatchFailed(failures)

    def _take(self, batch: Sequence[Delivery], *, uncertain: bool = False) -> None:
        for delivery in batch:
            payload: Payload = delivery.payload.data
            for place in payload.places:
                name = f"{payload.name} to {self.name}"
                self._facts.pay(place, name)
                self._facts.delivered += 1
                if uncertain:
                    self._facts.may_repeat(place, name)


class SimulatedDeadLetters:
    """Dead letter topic. `trouble` is the probability that a write fails."""

    def __init__(self, facts: Facts, trouble: float) -> None:
        self.trouble = trouble
        self._facts = facts
        self.count = 0

    async def connect(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    async def write(self, failures: Sequence[Failure]) -> None:
        """Write dead letters."""
        chance, life = self._facts.scheduler.chance, self._facts.life
        if delay_s := chance.choice(_DELAYS_S):
            await asyncio.sleep(delay_s)
        if self._facts.life != life:
            await asyncio.Event().wait()
        refused: dict[int, Exception] = {}
        if chance.random() < self.trouble:
            if chance.random() < 0.5:
                raise SinkError("down")
            refused = {index: SinkError("busy") for index in range(len(failures)) if chance.random() < 0.5}
        for index, failure in enumerate(failures):
            if index not in refused:
                self._settle(failure)
        if refused:
            raise BatchFailed(refused)

    def _settle(self, failure: Failure) -> None:
        self.count += 1
        for record, _ in failure.tokens:
            place = Place.of(self._facts.life, record)
            name = _debt(failure, record.payload)
            if failure.kind is FailureKind.ARRANGE and name not in self._facts.courses[place].debts:
                self._facts.turn(place, "record", name)
            self._facts.pay(place, name)


def _debt(failure: Failure, payload: Any) -> str:
    """Return the name of the debt that a dead letter pays."""
    match failure.kind:
        case FailureKind.SINK:
            return f"{failure.payload.data.name} to {failure.sink_name}"
        case FailureKind.DECODE:
            return "record"
        case FailureKind.BUSINESS:
            return f"failure {payload.name}"
        case FailureKind.TASK:
            return f"dead task {failure.task_id}"
        case FailureKind.HOOK:
            hook = failure.stage.rpartition(".")[2]
            return f"failed {hook} {failure.task_id}".strip()
        case _:
            return f"failed {failure.kind}"
