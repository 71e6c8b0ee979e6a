"""Memory gates for the tests of steps."""

from __future__ import annotations

from typing import Any

from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.memory import MemoryGate

__all__ = ["open_gate"]


def open_gate(loop_thread: Any, in_flight: InFlight) -> MemoryGate:
    """A gate over no steps: it never waits for any of them."""
    return MemoryGate(loop_thread, in_flight, tuple)
