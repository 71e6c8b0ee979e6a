"""Event bus: each event is emitted once and handed to the listeners of its type."""

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

    Listeners must be fast and never block. An exception of a listener is passed to `on_error`, and the
    other listeners still get the event. Exceptions of `on_error` are ignored.
    """

    def __init__(self, on_error: Callable[[Event, Exception], None] | None = None) -> None:
        self._listeners: defaultdict[type[Event], list[Callable[[Any], None]]] = defaultdict(list)
        self._on_error = on_error

    def listen(self, kind: type[E], listener: Callable[[E], None]) -> None:
        """Subscribe: call `listener` with every event of type `kind` from now on."""
        self._listeners[kind].append(listener)

    def unlisten(self, kind: type[E], listener: Callable[[E], None]) -> None:
        """Remove a subscription; an event that is being emitted may still reach it."""
        self._listeners[kind] = [each for each in self._listeners[kind] if each is not listener]

    def hears(self, kind: type[Event]) -> bool:
        """Return True if events of type `kind` have a listener; if not, it is pointless to make them."""
        return bool(self._listeners.get(kind))

    def disown(self, end: Callable[..., object]) -> None:
        """Call `end` instead of emitting events, in a forked process."""
        self._listeners.clear()
        setattr(self, "emit", end)  # noqa: B010 - replaces the method: `emit` needs no check

    def emit(self, event: Event) -> None:
        """Pass `event` to the listeners of its type."""
        for listener in self._listeners.get(type(event), ()):
            try:
                listener(event)
            except Exception as exc:  # an error of a listener must not stop the flow
                if self._on_error is not None:
                    with suppress(Exception):
                        self._on_error(event, exc)
