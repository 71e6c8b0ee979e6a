"""Payloads of a handler: one type per kind of sink, and the bundle of them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from drakkar_flow.model.base import Model, Payload
from drakkar_flow.sinks.filesystem.payload import FilePayload
from drakkar_flow.sinks.http.payload import HttpPayload
from drakkar_flow.sinks.kafka.payload import KafkaPayload
from drakkar_flow.sinks.mongo.payload import MongoPayload
from drakkar_flow.sinks.postgres.payload import PostgresPayload
from drakkar_flow.sinks.redis.payload import RedisPayload
from drakkar_flow.sinks.sqlite.payload import SqlitePayload

__all__ = [
    "CollectResult",
    "CustomPayload",
    "DeliveryAction",
    "DeliveryError",
    "ParseFailurePayload",
    "Payload",
    "payloads_of",
]


class CustomPayload(Payload, kw_only=True, gc=False):
    """One payload for a user-defined sink; `sink` must name it."""

    sink: str
    data: Any


class ParseFailurePayload(Model, kw_only=True, gc=False):
    """A record that could not be decoded, as py-drakkar 2 writes it into its dead letter topic.

    For readers of such dead letters; ours hold the record itself. `raw_value` is its value as text.
    """

    topic: str
    partition: int
    offset: int
    raw_value: str
    parse_error: str


class CollectResult(Model, kw_only=True):
    """Result of a hook: payloads by kind of sink.

    >>> CollectResult(files=[FilePayload(path="a.jsonl", data={})]).used_sink_types
    {'filesystem'}
    """

    kafka: list[KafkaPayload] = []
    postgres: list[PostgresPayload] = []
    mongo: list[MongoPayload] = []
    http: list[HttpPayload] = []
    redis: list[RedisPayload] = []
    files: list[FilePayload] = []
    sqlite: list[SqlitePayload] = []
    custom: list[CustomPayload] = []

    @property
    def has_outputs(self) -> bool:
        """True if it holds any payload."""
        return bool(self.payloads())

    @property
    def used_sink_types(self) -> set[str]:
        """The kinds of sink of its payloads, by their names in the configuration."""
        used = {name for name in self.__struct_fields__ if getattr(self, name)}
        return {"filesystem" if name == "files" else name for name in used}

    def payloads(self) -> list[Payload]:
        """All payloads, kind by kind."""
        return [
            *self.kafka,
            *self.postgres,
            *self.mongo,
            *self.http,
            *self.redis,
            *self.files,
            *self.sqlite,
            *self.custom,
        ]


class DeliveryAction(StrEnum):
    """Decision of `on_delivery_error` about payloads that a sink could not write."""

    DLQ = "dlq"
    RETRY = "retry"
    SKIP = "skip"


class DeliveryError(Model, kw_only=True):
    """A batch of payloads that a sink could not write, as `on_delivery_error` sees it."""

    sink_name: str
    sink_type: str
    error: str
    payloads: list[Any]


def payloads_of(value: Any) -> list[Any]:
    """Return the payloads of a hook's result: a CollectResult, one payload, or several.

    Raises:
        TypeError: when `value` is none of these.
    """
    if type(value) is CollectResult:
        try:
            return value.payloads()
        except TypeError:
            raise TypeError(f"a CollectResult in which {_no_list_in(value)}") from None
    if isinstance(value, Payload):
        return [value]
    if isinstance(value, (list, tuple)):
        return [payload for item in value for payload in payloads_of(item)]
    raise TypeError(f"{type(value).__name__} where a CollectResult, a payload, a list of payloads or None belongs")


def _no_list_in(result: CollectResult) -> str:
    wrong = {name: getattr(result, name) for name in result.__struct_fields__}
    wrong = {name: value for name, value in wrong.items() if not isinstance(value, Iterable)}
    return ", ".join(f"{name} is {type(value).__name__} and not a list" for name, value in wrong.items())
