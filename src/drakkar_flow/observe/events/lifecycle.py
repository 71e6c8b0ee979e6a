"""Events of a flow's lifecycle: states, failure, drain, lost log lines."""

from __future__ import annotations

from drakkar_flow.model.record import Lane
from drakkar_flow.observe.events.base import Event

__all__ = [
    "DrainFinished",
    "FlowFailed",
    "LogLineLost",
    "StateChanged",
]


class StateChanged(Event, frozen=True):
    """The runtime of a flow reached a state: starting, running, draining, stopped, failed.

    `reason` says why it failed, empty where a `FlowFailed` has said it.
    """

    state: str
    reason: str = ""
    flow: str = ""
    config: str = ""
    """Which file the configuration was read from, or that there was none; of `starting` only."""


class FlowFailed(Event, frozen=True):
    """The flow has to stop because of `reason`."""

    reason: str


class DrainFinished(Event, frozen=True):
    """A drain ended with `unfinished` records left, of `oldest` offsets, and `uncommitted` ones finished."""

    unfinished: int
    duration_s: float
    uncommitted: int = 0
    oldest: tuple[tuple[Lane, int], ...] = ()


class LogLineLost(Event, frozen=True):
    """A log line could not be written."""
