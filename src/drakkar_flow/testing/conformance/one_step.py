"""One async step in a chain on the test's loop: items in, results out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.chunk import Chunk
from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.runtime.memory import MemoryGate
from drakkar_flow.runtime.steps.chain import Chain
from drakkar_flow.runtime.steps.context import StepContext
from drakkar_flow.runtime.steps.pending import PendingTasks
from drakkar_flow.runtime.steps.proof import Proof
from drakkar_flow.runtime.steps.step import AsyncStep
from drakkar_flow.runtime.steps.trial import Trial

__all__ = ["Alone", "SameThreadLoop", "context_of"]


class SameThreadLoop(EventLoopThread):
    """Event loop thread in place of `EventLoopThread` that uses the running loop; bugs raise in the test's loop."""

    @property
    def closed(self) -> bool:
        """Always False: the test's loop lives as long as the test."""
        return False

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function` soon."""
        asyncio.get_running_loop().call_soon(function, *args)

    defer = post


def context_of(
    in_flight: InFlight | None = None,
    *,
    loop_thread: EventLoopThread | None = None,
    bus: Bus | None = None,
    gate: MemoryGate | None = None,
) -> StepContext:
    """Return the context of a step, on the test's loop unless a loop thread is given."""
    loop_thread = loop_thread or SameThreadLoop()
    in_flight = in_flight or InFlight(100, 1 << 40)
    proof = Proof()
    return StepContext(
        loop_thread=loop_thread,
        bus=bus or Bus(),
        in_flight=in_flight,
        gate=gate or MemoryGate(loop_thread, in_flight, tuple),
        pending=PendingTasks(),
        proof=proof,
        trial=Trial(0, proof),
    )


class Alone:
    """A chain of one step."""

    def __init__(self, step: AsyncStep[Any, Any], context: StepContext) -> None:
        self.step = step
        self.chain = Chain(context, [step])
        self._quiet = 0

    def put(self, *items: Any) -> None:
        """Hand over items, as the engine does."""
        self._quiet = 0
        self.chain.submit([Chunk(list(items))])

    @property
    def idle(self) -> bool:
        """True if the step had no open item in the last turns of the loop, in which all results left the chain.

        Check once a turn.
        """
        self._quiet = 0 if self.step.open or self.step.inbox else self._quiet + 1
        return self._quiet > 2

    def take(self) -> Chunk[Any]:
        """Return the results since the last call."""
        taken: Chunk[Any] = Chunk()
        for chunk in self.chain.take():
            taken.items += chunk.items
            taken.failures += chunk.failures
            taken.acks += chunk.acks
        return taken
