"""Kafka sink: one topic, every message acknowledged by the brokers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drakkar_flow.errors import BatchFailed, SinkRejected
from drakkar_flow.kinds.sink import SinkSpec
from drakkar_flow.model.codec import encode
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.model.record import Record
from drakkar_flow.sinks.kafka.client import Outgoing, producer_config
from drakkar_flow.sinks.kafka.payload import KafkaPayload
from drakkar_flow.sinks.kafka.settings import KafkaSinkConfig
from drakkar_flow.sinks.kafka.writer import KafkaWriter

__all__ = ["SPEC", "KafkaSink", "message_of"]

MAX_IN_FLIGHT = 8
MAX_BATCH = 2000


class KafkaSink:
    """Writes payloads to one topic.

    The producer is idempotent and waits for all in-sync replicas. Payloads are sent in the order of the `write_batch`
    calls, overlapping ones too, so equal keys keep their order as long as every message succeeds. When the brokers are
    gone, a batch fails after `delivery_timeout_s`; later batches succeed as soon as the brokers are back.

    Args:
        name: the instance's name under `sinks.kafka`.
        settings: `brokers` must be set.
    """

    def __init__(self, name: str, settings: KafkaSinkConfig) -> None:
        config = producer_config(
            settings.brokers,
            settings.client_config,
            linger_ms=settings.linger_ms,
            delivery_timeout_s=settings.delivery_timeout_s,
        )
        self._writer = KafkaWriter(f"sinks.kafka.{name}", settings.topic, config)

    async def connect(self) -> None:
        """Connect to the brokers and find the topic.

        Raises:
            StartupError: the brokers can't be reached (exit code 1), the topic is missing or the
                properties are wrong (2).
        """
        await self._writer.connect()

    async def write_batch(self, batch: Sequence[Delivery]) -> None:
        """Produce the batch; returns when the brokers have acknowledged all of it.

        Raises:
            BatchFailed: some payloads failed; a SinkRejected is one that can't be encoded or was refused permanently.
            SinkNotConnected: before `connect`, or after `close`.
        """
        failures: dict[int, Exception] = {}
        messages: list[Outgoing] = []
        positions: list[int] = []
        for position, delivery in enumerate(batch):
            try:
                messages.append(message_of(delivery.payload))
                positions.append(position)
            except Exception as error:  # encoding runs the user's serializers, which may raise anything
                failures[position] = SinkRejected(f"the payload can't be encoded: {type(error).__name__}: {error}")
        failed = await self._writer.write(messages)
        failures |= {positions[index]: error for index, error in failed.items()}
        if failures:
            raise BatchFailed(dict(sorted(failures.items())))

    async def close(self) -> None:
        """Write waiting messages, within the delivery timeout; safe to call twice and before `connect`."""
        await self._writer.close()


def message_of(payload: KafkaPayload) -> Outgoing:
    """Return the arguments with which the client produces a payload.

    Raises:
        TypeError, ValueError: the data has no JSON form, or a header's name holds NUL.
    """
    key = payload.key
    if key is not None and type(key) is not bytes:
        key = key.encode() if isinstance(key, str) else bytes(memoryview(key))
    message: Outgoing = {"value": encode(payload.data), "key": key}
    if payload.headers is not None:
        if any("\0" in name for name in dict(payload.headers)):
            raise ValueError("a header's name holds the character NUL, where the client would cut it")
        message["headers"] = payload.headers
    if payload.partition is not None:
        message["partition"] = payload.partition
    if payload.timestamp is not None:
        message["timestamp"] = payload.timestamp
    return message


def _wrap(value: Any, record: Record, name: str, _settings: KafkaSinkConfig) -> KafkaPayload:
    return KafkaPayload(data=value, key=record.key, sink=name)


SPEC = SinkSpec(
    kind="kafka",
    payload_type=KafkaPayload,
    settings_type=KafkaSinkConfig,
    make=KafkaSink,
    wrap=_wrap,
    check_payload=lambda payload, _: message_of(payload),
    max_in_flight=MAX_IN_FLIGHT,
    max_batch=MAX_BATCH,
    times_itself=True,
)
"""Spec of the Kafka sink."""
