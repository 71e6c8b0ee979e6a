"""Payload of the kafka sink."""

from __future__ import annotations

from typing import Any

from drakkar_flow.model.base import Payload

__all__ = ["KafkaPayload"]


class KafkaPayload(Payload, kw_only=True, gc=False):
    """One message for a Kafka sink.

    `data` is a pydantic model, a msgspec struct, a dataclass or a JSON-able value (sent as JSON), text
    (as UTF-8) or bytes (as they are). `headers`, `partition` and `timestamp` (ms) are optional.

    >>> KafkaPayload(data={"id": 7}, key="7", headers=[("kind", b"order")]).sink
    ''
    """

    key: bytes | str | None = None
    data: Any
    headers: list[tuple[str, bytes]] | None = None
    partition: int | None = None
    timestamp: int | None = None
