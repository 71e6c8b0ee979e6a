"""Sink protocol: three methods. Batching, retry, metrics and acknowledgement are in `runtime.steps.deliver`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel

from drakkar_flow.errors import Problem
from drakkar_flow.model.base import Payload
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.model.payload import CustomPayload
from drakkar_flow.model.record import Record

__all__ = ["Sink", "SinkSpec"]

_SETTINGS = frozenset({"retry", "circuit_breaker", "delivery_timeout_s"})
"""Settings that every sink has, used by its deliveries."""


class Sink(Protocol):
    """Writes payloads to one target; every method is called on the event loop's thread and must not block it."""

    async def connect(self) -> None:
        """Connect to the target and verify that it answers.

        Raises:
            StartupError: the target is missing or unreachable; the problems say how to fix it.
        """
        ...

    async def write_batch(self, batch: Sequence[Delivery]) -> None:
        """Write every payload of `batch`; on return all of them are durable, as acknowledged by the target.

        Never called before `connect` has returned. At most `SinkSpec.max_in_flight` calls overlap. A call
        that exceeds the delivery timeout is cancelled, and its payloads are written again.

        Raises:
            BatchFailed: some payloads failed, by index; the others are durable. A payload whose cause is
                a SinkRejected is not retried.
            SinkError: nothing is known to be durable; the whole batch may be retried.
        """
        ...

    async def close(self) -> None:
        """Flush and release all resources; safe to call twice and before `connect`."""
        ...


def _wrap(value: Any, _record: Record, name: str, _settings: Any) -> CustomPayload:
    return CustomPayload(sink=name, data=value)


@dataclass(frozen=True)
class SinkSpec:
    """Definition of one kind of sink; docs/plugins.md has a complete example."""

    kind: str
    """Name under `sinks` in the configuration, e.g. `kafka`."""
    settings_type: type[BaseModel]
    """Model of one instance's settings, derived from `SinkConfig`."""
    make: Callable[[str, Any], Sink]
    """(instance name, settings) -> a sink that is not connected yet."""
    payload_type: type[Payload] = CustomPayload
    """Payload type of this kind."""
    wrap: Callable[[Any, Record, str, Any], Any] = _wrap
    """(value, record, instance name, settings) -> a payload, for flows that route plain values."""
    max_in_flight: int = 1
    """Maximum of overlapping `write_batch` calls; 1 keeps the order."""
    max_batch: int = 1000
    """Maximum of payloads per `write_batch`."""
    times_itself: bool = False
    """True if the sink itself enforces `delivery_timeout_s`."""
    check_payload: Callable[[Any, Mapping[str, Any]], object] | None = None
    """(payload, settings by name) -> ignored; raises SinkRejected for payloads that the sink refuses without its
    target. The testing kit refuses the same payloads."""
    prove: Callable[[str, Any], Awaitable[Sequence[Problem]]] | None = None
    """(place of the settings, settings) -> problems that prevent writes; called by `check` after `connect`."""
    client: str = ""
    """Module that the sink imports when it connects; `lint` reports a missing one."""
    not_checked: str = ""
    """Description of the parts that `check` can't verify before a run, e.g. tables that only payloads name."""
    api: int = 1
    """Version of the plug-in interface that the spec was written for."""

    def problem(self) -> str:
        """Return the reason why the spec is invalid; empty if it is valid."""
        settings: Any = self.settings_type  # a plug-in may be written without a type checker
        payload: Any = self.payload_type
        if not (isinstance(settings, type) and issubclass(settings, BaseModel)):
            return "settings_type is not a pydantic model: derive it from SinkConfig"
        if missing := sorted(_SETTINGS - settings.model_fields.keys()):
            return f"{settings.__name__} lacks {', '.join(missing)}: derive it from SinkConfig"
        if not (isinstance(payload, type) and issubclass(payload, Payload)):
            return "payload_type is not a payload class: derive it from Payload"
        return ""
