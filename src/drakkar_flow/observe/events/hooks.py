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
    """A hook was called once, with its duration and its exception if it raised.

    `duration_s` is None if the call was not timed, or was timed as part of a batch.
    """

    hook: str
    duration_s: float | None
    error: str = ""
    exception: BaseException | None = None
    about: EventContext = NO_CONTEXT


class HooksRan(Event, frozen=True):
    """A hook was called `count` times in one batch that took `duration_s` in total."""

    hook: str
    count: int
    duration_s: float


class PeriodicRan(Event, frozen=True):
    """A periodic function ran once; `stopped` is True if it raised and will not run again."""

    name: str
    duration_s: float
    error: str = ""
    exception: BaseException | None = None
    stopped: bool = False


class Offloaded(Event, frozen=True):
    """A call of a hook ran on a thread of the offload pool for `duration_s`."""

    hook: str
    duration_s: float
