"""Sink protocol: three methods. Batching, retry, metrics and acknowledgement live in `runtime.steps.deliver`."""

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
"""The settings that deliveries to every sink go by."""


class Sink(Protocol):
    """Writes payloads to one target; every method is called on the event loop's thread and must not block it."""

    async def connect(self) -> None:
        """Open what `write_batch` needs and prove it works.

        Raises:
            StartupError: with what is missing or unreachable, and the remedy.
        """
        ...

    async def write_batch(self, batch: Sequence[Delivery]) -> None:
        """Write every payload of `batch`; when it returns, all of them are durable by the target's own word.

        Never called before `connect` returned. At most `SinkSpec.max_in_flight` calls overlap. A call
        that takes too long is cancelled, and its payloads are written again.

        Raises:
            BatchFailed: some payloads failed, by index; the others are durable. A cause that is a
                SinkRejected is not tried again.
            SinkError: nothing is known to be durable; the whole batch may be tried again.
        """
        ...

    async def close(self) -> None:
        """Flush and let go of everything; safe to call twice and before `connect`."""
        ...


def _wrap(value: Any, _record: Record, name: str, _settings: Any) -> CustomPayload:
    return CustomPayload(sink=name, data=value)


@dataclass(frozen=True)
class SinkSpec:
    """Everything the library knows about one kind of sink; docs/plugins.md shows a whole one."""

    kind: str
    """The name under `sinks` in the configuration, e.g. `kafka`."""
    settings_type: type[BaseModel]
    """The model of one instance's settings, derived from `SinkConfig`."""
    make: Callable[[str, Any], Sink]
    """(instance name, settings) -> a sink that is not connected yet."""
    payload_type: type[Payload] = CustomPayload
    """The payload this kind takes."""
    wrap: Callable[[Any, Record, str, Any], Any] = _wrap
    """(value, record, instance name, settings) -> a payload, for flows that route plain values."""
    max_in_flight: int = 1
    """How many `write_batch` calls may overlap; 1 keeps the order."""
    max_batch: int = 1000
    """The most payloads one `write_batch` gets."""
    times_itself: bool = False
    """Whether the sink itself fails what takes longer than `delivery_timeout_s`."""
    check_payload: Callable[[Any, Mapping[str, Any]], object] | None = None
    """(payload, settings by name) -> ignored; raises SinkRejected for what the sink refuses without its target. The
    testing kit refuses the same."""
    prove: Callable[[str, Any], Awaitable[Sequence[Problem]]] | None = None
    """(place of the settings, settings) -> what keeps the sink from writing; asked by `check` after `connect`."""
    client: str = ""
    """The module that the sink imports when it connects; `lint` reports where it is not installed."""
    not_checked: str = ""
    """What `check` can't know before a run, e.g. tables that only payloads name."""
    api: int = 1
    """The version of the plug-in interface that the spec was written for."""

    def problem(self) -> str:
        """Why the library can't use the spec; empty when it can."""
        settings: Any = self.settings_type  # a plug-in's author may not have a type checker
        payload: Any = self.payload_type
        if not (isinstance(settings, type) and issubclass(settings, BaseModel)):
            return "settings_type is no model"
        if missing := sorted(_SETTINGS - settings.model_fields.keys()):
            return f"{settings.__name__} lacks {', '.join(missing)}: derive it from SinkConfig"
        if not (isinstance(payload, type) and issubclass(payload, Payload)):
            return "payload_type is no Payload: derive it from Payload"
        return ""
