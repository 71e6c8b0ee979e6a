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
    oldest: tuple[tuple[TopicPartition, int], ...] = ()


class ListenerFailed(Event, frozen=True):
    """A listener of the program raised at an event of type `of`; `first` is True once for each of these types."""

    listener: str
    of: str
    error: str
    first: bool


class ListenerLagged(Event, frozen=True):
    """Events were dropped, because too many waited for a listener of the program, or it did not end in time."""

    listener: str
    dropped: int


class LogLineLost(Event, frozen=True):
    """A log line could not be written."""
