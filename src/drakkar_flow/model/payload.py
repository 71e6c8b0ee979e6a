"""What a handler sends to sinks: one payload type per kind of sink, and the bundle of them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

__all__ = [
    "CollectResult",
    "DeliveryAction",
    "DeliveryError",
    "FilePayload",
    "KafkaPayload",
    "Payload",
    "SqlitePayload",
    "payloads_of",
]


class KafkaPayload(msgspec.Struct, kw_only=True, gc=False):
    """One message for a Kafka sink.

    `data` is a pydantic model, a msgspec struct, a JSON-able value, text (sent as UTF-8) or bytes
    (sent as they are). `sink` names the sink; it may stay empty when only one Kafka sink exists.
    `headers`, `partition` and `timestamp` (ms) are optional.
    """

    data: Any
    key: bytes | str | None = None
    sink: str = ""
    headers: list[tuple[str, bytes]] | None = None
    partition: int | None = None
    timestamp: int | None = None


class FilePayload(msgspec.Struct, kw_only=True, gc=False):
    """One JSON line appended to `path`, which is relative to the sink's base directory."""

    path: str
    data: Any
    sink: str = ""


class SqlitePayload(msgspec.Struct, kw_only=True, gc=False):
    """One row for `table` of an SQLite sink; the fields of `data` are its columns."""

    table: str
    data: Any
    sink: str = ""


Payload = KafkaPayload | FilePayload | SqlitePayload


class CollectResult(msgspec.Struct, kw_only=True):
    """What a hook returns: payloads by kind of sink."""

    kafka: list[KafkaPayload] = []
    files: list[FilePayload] = []
    sqlite: list[SqlitePayload] = []

    @property
    def has_outputs(self) -> bool:
        """Whether it holds any payload."""
        return bool(self.kafka or self.files or self.sqlite)

    def payloads(self) -> list[Payload]:
        """All payloads, kind by kind."""
        return [*self.kafka, *self.files, *self.sqlite]


class DeliveryAction(StrEnum):
    """What `on_delivery_error` decides for payloads a sink could not write."""

    DLQ = "dlq"
    RETRY = "retry"
    SKIP = "skip"


class DeliveryError(msgspec.Struct, kw_only=True):
    """A batch of payloads that a sink could not write, as `on_delivery_error` sees it."""

    sink_name: str
    sink_type: str
    error: str
    payloads: list[Any]


def payloads_of(value: Any) -> list[Any]:
    """The payloads a hook returned: a CollectResult, one payload, or several.

    Raises:
        TypeError: when `value` is none of these.
    """
    if type(value) is CollectResult:
        return value.payloads()
    if isinstance(value, Payload):
        return [value]
    if isinstance(value, list | tuple):
        return [payload for item in value for payload in payloads_of(item)]
    raise TypeError(f"{type(value).__name__} where a CollectResult, a payload, a list of payloads or None belongs")
