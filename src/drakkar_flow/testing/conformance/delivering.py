"""Delivery to a real sink without a flow: payloads in, acknowledgements and failures out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from drakkar_flow.config.sections.delivery import CircuitBreakerConfig
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.kinds.sink import Sink, SinkSpec
from drakkar_flow.model.outcome import Delivery, Failure
from drakkar_flow.model.record import Record
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.steps.circuit import Circuit
from drakkar_flow.runtime.steps.deliver import DeliverSettings, DeliverStep
from drakkar_flow.testing.conformance.one_step import Alone, context_of

__all__ = ["Delivered", "deliver"]

PATIENCE_S = 60.0


@dataclass
class Delivered:
    """Results of payloads: those acknowledged, by their position, and the failures."""

    acknowledged: list[int]
    failures: list[Failure]

    @property
    def failed(self) -> list[Any]:
        """Payloads of the failures, in their order."""
        return [failure.payload for failure in sorted(self.failures, key=lambda failure: failure.tokens[0][0].offset)]


async def deliver(
    sink: Sink, spec: SinkSpec, payloads: Sequence[Any], *, when_open: str = "dlq", attempts: int = 3
) -> Delivered:
    """Hand payloads over at once to a connected sink, as the runtime does, and wait until each has ended."""
    bus = Bus()
    settings = DeliverSettings(
        spec.kind, "main", spec.max_in_flight, spec.max_batch, attempts, Backoff(initial_s=0.01, max_s=0.1)
    )
    breaker = CircuitBreakerConfig(failure_threshold=1, cooldown_seconds=0.01, when_open=when_open)
    circuit = Circuit(bus, spec.kind, "main", breaker)
    context = context_of(bus=bus)
    delivering = Alone(DeliverStep(context, "sink", sink, settings, circuit), context)
    records = [Record(topic="in", partition=0, offset=number) for number in range(len(payloads))]
    delivering.put(
        *[Delivery(payload, ((record, record.credit),)) for payload, record in zip(payloads, records, strict=True)]
    )
    acknowledged: list[int] = []
    failures: list[Failure] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(acknowledged) + len(failures) < len(payloads):
            await asyncio.sleep(0.001)
            chunk = delivering.take()
            acknowledged += [ack.record.offset for ack in chunk.acks]
            failures += chunk.failures
    return Delivered(sorted(acknowledged), failures)
