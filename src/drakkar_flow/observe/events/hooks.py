"""Events of a handler's hooks, periodic functions and offloaded calls."""

from __future__ import annotations

from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.context import NO_CONTEXT, EventContext

__all__ = [
    "HookRan",
    "HooksRan",
    "Offloaded",
    "PeriodicRan",
]


class HookRan(Event, frozen=True):
    """A hook was called once: how long it took, whether it raised, and what.

    `duration_s` is None where the call's time is not measured, or is part of a batch's.
    """

    hook: str
    duration_s: float | None
    error: str = ""
    exception: BaseException | None = None
    about: EventContext = NO_CONTEXT


class HooksRan(Event, frozen=True):
    """A hook was called `count` times in one batch that took `duration_s` altogether."""

    hook: str
    count: int
    duration_s: float


class PeriodicRan(Event, frozen=True):
    """A periodic function was run once; `stopped` tells that it raised and is not run any more."""

    name: str
    duration_s: float
    error: str = ""
    exception: BaseException | None = None
    stopped: bool = False


class Offloaded(Event, frozen=True):
    """A call for a hook ran on a thread of the pool for `duration_s`."""

    hook: str
    duration_s: float
