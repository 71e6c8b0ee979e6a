"""Memory gates for the tests of steps."""

from __future__ import annotations

from typing import Any

from drakkar_flow.runtime.flight import Flight
from drakkar_flow.runtime.memory import MemoryGate

__all__ = ["open_gate"]


def open_gate(bridge: Any, flight: Flight) -> MemoryGate:
    """A gate over no steps: it never waits for any of them."""
    return MemoryGate(bridge, flight, tuple)
