"""Events of a flow's lifecycle: states, failure, drain, lost log lines."""

from __future__ import annotations

from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.events.base import Event

__all__ = [
    "DrainFinished",
    "FlowFailed",
    "ListenerFailed",
    "ListenerLagged",
    "LogLineLost",
    "StateChanged",
]


class StateChanged(Event, frozen=True):
    """A flow reached a state: starting, running, draining, stopped, failed.

    `reason` is the reason of a failure; empty if a `FlowFailed` has reported it.
    """

    state: str
    reason: str = ""
    flow: str = ""
    config: str = ""
    """Origin of the configuration: its file, or a text if there is none; only in `starting`."""


class FlowFailed(Event, frozen=True):
    """The flow stops because of `reason`."""

    reason: str


class DrainFinished(Event, frozen=True):
    """A drain ended with `unfinished` records, their `oldest` offsets, and `uncommitted` finished records."""

    unfinished: int
    duration_s: float
    uncommitted: int = 0
    oldest: tuple[tuple[TopicPartition, int], ...] = ()


class ListenerFailed(Event, frozen=True):
    """A listener of the program raised for an event of type `of`; `first` is True once per type."""

    listener: str
    of: str
    error: str
    first: bool


class ListenerLagged(Event, frozen=True):
    """Events were dropped: the queue of a listener of the program was full, or the listener did not end in time."""

    listener: str
    dropped: int


class LogLineLost(Event, frozen=True):
    """A log line could not be written."""
