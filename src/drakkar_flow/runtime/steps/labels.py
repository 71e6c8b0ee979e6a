"""Record names in errors, logs and dead letters."""

from __future__ import annotations

from collections.abc import Callable

from drakkar_flow.model.record import Record
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.context import EventContext
from drakkar_flow.observe.events.hooks import HookRan
from drakkar_flow.runtime.failures import describe

__all__ = ["Labels"]


class Labels:
    """Calls `message_label`, where there is one; other records are named topic:partition:offset."""

    def __init__(self, label: Callable[[Record], str] | None, bus: Bus) -> None:
        self._label = label
        self._bus = bus

    @property
    def are_own(self) -> bool:
        """True if labels differ from topic:partition:offset."""
        return self._label is not None

    def of(self, record: Record) -> str:
        """Return the label of a record; never raises."""
        if self._label is None:
            return record.label
        try:
            label = self._label(record)
            if not isinstance(label, str):
                raise TypeError(f"message_label must return a str, not {type(label).__name__}")
        except KeyboardInterrupt:  # Ctrl-C in a program with its own signal handlers
            raise
        except BaseException as exc:  # an error in naming a failure must not be another failure
            self._bus.emit(HookRan("message_label", None, describe(exc), exc, EventContext.of((record,))))
            return record.label
        return label
