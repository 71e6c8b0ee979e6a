"""Labels of records in errors, logs and dead letters."""

from __future__ import annotations

from collections.abc import Callable

from drakkar_flow.model.record import Record
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.context import EventContext
from drakkar_flow.observe.events.hooks import HookRan
from drakkar_flow.runtime.failures import describe

__all__ = ["Labels"]


class Labels:
    """Asks `message_label`, where there is one; what it can't name is topic:partition:offset."""

    def __init__(self, label: Callable[[Record], str] | None, bus: Bus) -> None:
        self._label = label
        self._bus = bus

    @property
    def are_own(self) -> bool:
        """Whether labels say something else than where a record is from."""
        return self._label is not None

    def of(self, record: Record) -> str:
        """The label of a record; never raises."""
        if self._label is None:
            return record.label
        try:
            label = self._label(record)
            if not isinstance(label, str):
                raise TypeError(f"message_label must return a str, not {type(label).__name__}")
        except KeyboardInterrupt:  # Ctrl-C in a program with signal handlers of its own
            raise
        except BaseException as exc:  # naming a failure must not be another one
            self._bus.emit(HookRan("message_label", None, describe(exc), exc, EventContext.of((record,))))
            return record.label
        return label
