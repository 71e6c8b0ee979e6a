"""The event bus: what happens is emitted once, whoever wants to know listens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from drakkar_flow.observe.events.base import Event

__all__ = ["Bus"]

E = TypeVar("E", bound=Event)


class Bus:
    """Hands each event to the listeners of its type, on the thread that emitted it.

    Listeners must be quick and never block. One that raises is reported to `on_error` and does
    not keep the others from hearing the event; an `on_error` that raises is not heard of.
    """

    def __init__(self, on_error: Callable[[Event, Exception], None] | None = None) -> None:
        self._listeners: defaultdict[type[Event], list[Callable[[Any], None]]] = defaultdict(list)
        self._on_error = on_error

    def listen(self, kind: type[E], listener: Callable[[E], None]) -> None:
        """Call `listener` with every event of type `kind` from now on."""
        self._listeners[kind].append(listener)

    def disown(self, end: Callable[..., object]) -> None:
        """Call `end` instead of emitting events: for a forked process, to which they do not belong."""
        self._listeners.clear()
        setattr(self, "emit", end)  # noqa: B010 - only here, so that emitting costs nothing elsewhere

    def emit(self, event: Event) -> None:
        """Hand `event` to the listeners of its type."""
        for listener in self._listeners.get(type(event), ()):
            try:
                listener(event)
            except Exception as exc:  # a listener is never worth a flow
                if self._on_error is not None:
                    with suppress(Exception):
                        self._on_error(event, exc)
