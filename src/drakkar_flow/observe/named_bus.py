"""Bus of a named executor: adds the name to its events."""

from __future__ import annotations

import msgspec

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event

__all__ = ["NamedBus"]


class NamedBus(Bus):
    """Emits on another bus, with `name` as the `executor_name` of events that have this field."""

    def __init__(self, bus: Bus, name: str) -> None:
        super().__init__()
        self._bus = bus
        self._name = name

    def hears(self, kind: type[Event]) -> bool:
        """Return True if the other bus has a listener for events of type `kind`."""
        return self._bus.hears(kind)

    def emit(self, event: Event) -> None:
        """Emit `event` on the other bus, with the name."""
        if "executor_name" in event.__struct_fields__:
            event = msgspec.structs.replace(event, executor_name=self._name)
        self._bus.emit(event)
