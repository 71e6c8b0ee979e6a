"""Events of the flight recorder."""

from __future__ import annotations

from drakkar_flow.observe.events.base import Event

__all__ = ["RecorderChanged", "RecorderDropped", "RecorderFailed", "RecorderStarted", "RecordingFaulty"]


class RecorderStarted(Event, frozen=True):
    """The recorder writes to a directory."""

    directory: str


class RecorderChanged(Event, frozen=True):
    """The recorder gives up a part of its work because of `reason`, or does all of it again.

    `state` is `full`, `without_details` (ticks, spans and faults only) or `off` (nothing is written).
    """

    state: str
    reason: str = ""


class RecorderDropped(Event, frozen=True):
    """The recorder dropped `count` events of a kind: a table's name, or `events` if its buffer was full."""

    kind: str
    count: int


class RecorderFailed(Event, frozen=True):
    """An event could not be recorded; the recorder goes on."""

    reason: str


class RecordingFaulty(Event, frozen=True):
    """A recording can't be sealed; it stays as it is, and is tried again later, at the latest by the next start."""

    path: str
    reason: str
