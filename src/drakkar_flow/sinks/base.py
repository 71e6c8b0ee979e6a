"""Sink protocol: three methods. Batching, retry, metrics and acknowledgement live in `runtime.steps.deliver`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from drakkar_flow.config.sections.delivery import SinkConfig
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.model.record import Record

__all__ = ["Sink", "SinkSpec"]


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


@dataclass(frozen=True)
class SinkSpec:
    """Everything the library knows about one kind of sink."""

    kind: str
    """The name under `sinks` in the configuration, e.g. `kafka`."""
    payload_type: type
    """The payload this kind takes."""
    settings_type: type[SinkConfig]
    """The model of one instance's settings."""
    make: Callable[[str, Any], Sink]
    """(instance name, settings) -> a sink that is not connected yet."""
    wrap: Callable[[Any, Record, str, Any], Any]
    """(value, record, instance name, settings) -> a payload, for flows that route plain values."""
    max_in_flight: int = 1
    """How many `write_batch` calls may overlap; 1 keeps the order."""
    max_batch: int = 1000
    """The most payloads one `write_batch` gets."""
    times_itself: bool = False
    """Whether the sink itself fails what takes longer than `delivery_timeout_s`."""
