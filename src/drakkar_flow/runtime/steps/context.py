"""Step context: the parts of a process that every async step uses."""

from __future__ import annotations

from dataclasses import dataclass

from drakkar_flow.model.record import Record
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.bridge import Bridge
from drakkar_flow.runtime.flight import Flight
from drakkar_flow.runtime.memory import Charge, MemoryGate
from drakkar_flow.runtime.steps.pending import PendingTasks
from drakkar_flow.runtime.steps.proof import Proof
from drakkar_flow.runtime.steps.trial import Trial

__all__ = ["StepContext"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """One per process: the loop, the events, what is in flight, and what is known about the steps."""

    bridge: Bridge
    bus: Bus
    flight: Flight
    gate: MemoryGate
    pending: PendingTasks
    proof: Proof
    trial: Trial

    def charge(self) -> Charge:
        """Make the byte counter of one step."""
        return Charge(self.flight)

    def is_fenced(self, record: Record) -> bool:
        """Whether a record's partition was taken away: it must be neither executed nor delivered here any more."""
        flight = self.flight
        return flight.has_fences and flight.is_fenced(record)
