"""Step context: the components of a process that every async step uses."""

from __future__ import annotations

from dataclasses import dataclass

from drakkar_flow.model.record import Record
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.runtime.memory import Charge, MemoryGate
from drakkar_flow.runtime.state.hooks import HandlerState
from drakkar_flow.runtime.steps.pending import PendingTasks
from drakkar_flow.runtime.steps.proof import Proof
from drakkar_flow.runtime.steps.trial import Trial

__all__ = ["StepContext"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """Shared by the steps of a process: the loop, the events, the records in flight, and the proven steps."""

    loop_thread: EventLoopThread
    bus: Bus
    in_flight: InFlight
    gate: MemoryGate
    pending: PendingTasks
    proof: Proof
    trial: Trial
    state: HandlerState | None = None
    """State of the handler's hooks; None if it keeps none."""

    def charge(self) -> Charge:
        """Make the byte counter of one step."""
        return Charge(self.in_flight)

    def is_fenced(self, record: Record) -> bool:
        """Return True if a record's partition was taken away: it must not be executed or delivered here any more."""
        in_flight = self.in_flight
        return in_flight.has_fences and in_flight.is_fenced(record)
