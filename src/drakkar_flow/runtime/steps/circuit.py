"""Circuit of one sink: closed, open, or probed with a single batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from drakkar_flow.config.sections.delivery import CircuitBreakerConfig
from drakkar_flow.errors import SinkError
from drakkar_flow.kernel.breaker import Breaker, BreakerState
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.sinks import SinkCircuitChanged

__all__ = ["Circuit"]


class Circuit:
    """Circuit breaker of a sink, one for all its partitions; emits every change. Use it on the loop's thread only.

    A batch is admitted with a ticket and returns it with its result. With `waits`, batches wait for their admission
    while the circuit is open.
    """

    def __init__(
        self,
        bus: Bus,
        kind: str,
        name: str,
        config: CircuitBreakerConfig,
        clock: Callable[[], float] = lambda: asyncio.get_running_loop().time(),
    ) -> None:
        self._bus = bus
        self._kind = kind
        self._name = name
        self._clock = clock
        self._breaker = Breaker(config.failure_threshold, config.cooldown_seconds)
        self._told: BreakerState = "closed"
        self._changed = asyncio.Event()
        self._reason = ""
        self.waits = config.when_open == "wait"
        self.successes = 0
        """Number of successes noted so far."""

    @property
    def closed(self) -> bool:
        """True if the sink is written to as usual."""
        return self._breaker.state == "closed"

    async def admission(self) -> int | None:
        """Return a ticket to write a batch; None if the circuit is open and batches do not wait."""
        while (ticket := self._admit()) is None and self.waits:
            retry_at, changed = self._breaker.retry_at, self._changed
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), None if retry_at is None else retry_at - self._clock())
        return ticket

    def refusal(self) -> SinkError:
        """Return the reason why a batch is not admitted."""
        return SinkError(
            f"circuit open: {self._breaker.failures} batches in a row failed, the last error: {self._reason}"
        )

    def succeed(self, ticket: int | None) -> None:
        """Note that a batch, or a part of it that proves the sink works, was written."""
        self.successes += 1
        self._breaker.succeed(ticket)
        self._emit_state()

    def fail(self, ticket: int | None, reason: str) -> None:
        """Note that a batch failed, all its attempts included."""
        before = self._breaker.failures
        self._breaker.fail(ticket, self._clock())
        if self._breaker.failures > before:  # else the ticket was void
            self._reason = reason
            self._emit_state()

    def release(self, ticket: int | None) -> None:
        """Note that a batch ended without evidence about the sink: after a probe the next batch probes."""
        probed = self._breaker.state == "half_open"
        self._breaker.release(ticket)
        if probed:
            self._wake()

    def _admit(self) -> int | None:
        ticket = self._breaker.admit(self._clock())
        self._emit_state()
        return ticket

    def _emit_state(self) -> None:
        breaker = self._breaker
        if breaker.state != self._told:
            self._told = breaker.state
            reason = self._reason if self._told == "open" else ""
            event = SinkCircuitChanged(self._kind, self._name, self._told, breaker.failures, self.waits, reason)
            self._bus.emit(event)
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
