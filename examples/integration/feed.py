"""Kafka access of the scenario itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka import TopicPartition as KafkaPartition

from examples.integration import workload

__all__ = ["Watch", "read_all", "send"]

_TIMEOUT_S = 20.0


def send(brokers: str, topic: str, messages: Iterable[workload.Message]) -> dict[tuple[int, int], int]:
    """Write all messages; returns the id of each by partition and offset.

    Raises:
        RuntimeError: a message was not acknowledged.
    """
    places: dict[tuple[int, int], int] = {}
    failures: list[KafkaError] = []
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 20, "enable.idempotence": True, "log_level": 2})
    for message in messages:

        def acknowledged(error: KafkaError | None, sent: Message, record_id: int = message.id) -> None:
            if error is not None:
                failures.append(error)
            else:
                places[_place(sent)] = record_id

        producer.produce(topic, message.value, key=str(message.id), on_delivery=acknowledged)
        producer.poll(0)
    left = producer.flush(_TIMEOUT_S)
    if left or failures:
        raise RuntimeError(f"{left} messages not acknowledged, {len(failures)} failed: {failures[:1]}")
    return places


def read_all(brokers: str, topic: str) -> Iterator[Message]:
    """Read a topic from its beginning to its present end."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "scenario-reader", "enable.partition.eof": True})
    try:
        unread = set(consumer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic].partitions)
        consumer.assign([KafkaPartition(topic, partition, OFFSET_BEGINNING) for partition in unread])
        while unread:
            for message in consumer.consume(1000, timeout=_TIMEOUT_S):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - confluent-kafka's public constant
                    unread.discard(_place(message)[0])
    finally:
        consumer.close()


class Watch:
    """Watches the end of a topic and the committed offsets of a group; outages of the broker count as no news."""

    def __init__(self, brokers: str, group: str) -> None:
        settings: dict[str, Any] = {"bootstrap.servers": brokers, "group.id": group, "log_level": 0}
        self._client = Consumer(settings)

    def close(self) -> None:
        """Close the client, which never joined the group."""
        self._client.close()

    def size(self, topic: str) -> int | None:
        """Number of messages of a topic; None while the broker does not answer."""
        ends = self.ends(topic)
        return None if ends is None else sum(ends.values())

    def ends(self, topic: str) -> dict[int, int] | None:
        """The end offset of each partition; None while the broker does not answer."""
        try:
            partitions = self._client.list_topics(topic, timeout=2).topics[topic].partitions
            places = [KafkaPartition(topic, partition) for partition in partitions]
            return {at.partition: self._client.get_watermark_offsets(at, timeout=2)[1] for at in places}
        except KafkaException:
            return None

    def committed(self, topic: str, partitions: Iterable[int]) -> dict[int, int] | None:
        """The committed offset of each partition, 0 where there is none; None while the broker does not answer."""
        try:
            found = self._client.committed([KafkaPartition(topic, partition) for partition in partitions], 2)
        except KafkaException:
            return None
        return {at.partition: max(0, at.offset) for at in found}


def _place(message: Message) -> tuple[int, int]:
    partition, offset = message.partition(), message.offset()
    assert partition is not None and offset is not None  # noqa: PT018 - one fact
    return partition, offset
