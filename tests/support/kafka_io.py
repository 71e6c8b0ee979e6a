"""Reading and writing a real Kafka the plain way, to say what is true before and after a test."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
)
from confluent_kafka import (
    TopicPartition as KafkaPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from scripts.services import KafkaCluster
from support.names import unique

__all__ = [
    "Kafka",
    "MakeCluster",
    "MakeTopic",
    "TopicLog",
    "add_partitions",
    "committed",
    "committed_as_told_to",
    "create_topic",
    "delete_topics",
    "end_offsets",
    "group_asker",
    "headers_of",
    "in_sync",
    "leader_of",
    "produce",
    "read_all",
]

REQUEST_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Kafka:
    """A real broker that tests share: make topics and groups with names of your own."""

    bootstrap: str
    """The value of `bootstrap.servers`."""


class MakeTopic(Protocol):
    """Makes an empty topic with a name of its own, and gives the name; it goes away after the test."""

    def __call__(self, partitions: int = 4) -> str: ...


class MakeCluster(Protocol):
    """Starts a cluster of its own for one test, which may break it, and stops it after the test."""

    def __call__(self, brokers: int = 1, properties: Mapping[str, str] | None = None) -> KafkaCluster: ...


def headers_of(message: Message) -> dict[str, bytes]:
    """The headers of a message that was read, of each name the last."""
    headers: Any = message.headers() or []
    return dict(headers)


def produce(
    bootstrap: str,
    topic: str,
    values: Iterable[bytes | str | None],
    keys: Sequence[bytes | str | None] | None = None,
    partition: int | None = None,
) -> None:
    """Write values in order and return when the broker has acknowledged all of them.

    Args:
        bootstrap: the value of `bootstrap.servers`.
        topic: an existing topic.
        values: None is a tombstone.
        keys: one for each value; None leaves all keys out.
        partition: where all of them go; None leaves the choice to the partitioner.
    """
    errors: list[object] = []

    def acknowledged(error: object, _message: Message) -> None:
        if error is not None:
            errors.append(error)

    # One request at a time keeps the order; idempotence would too, but takes half a second to begin.
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "max.in.flight": 1})
    where: dict[str, Any] = {} if partition is None else {"partition": partition}
    for index, value in enumerate(values):
        key = keys[index] if keys is not None else None
        while True:
            try:
                producer.produce(topic, value=value, key=key, on_delivery=acknowledged, **where)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    left = producer.flush(REQUEST_TIMEOUT_S)
    assert not left, f"{left} messages to {topic} were not acknowledged within {REQUEST_TIMEOUT_S:g} s"
    assert not errors, f"{len(errors)} messages to {topic} failed, the first with {errors[0]}"


def read_all(bootstrap: str, topic: str, expected: int = 0, timeout_s: float = 20.0) -> list[Message]:
    """All messages of a topic from the beginning, in order within each partition; touches no group.

    Reads on to the present end of every partition even when there are enough, so that duplicates are seen.

    Args:
        bootstrap: the value of `bootstrap.servers`.
        topic: an existing topic.
        expected: wait until there are at least this many, and fail the test if there are not.
        timeout_s: how long to wait.
    """
    return TopicLog(bootstrap, topic).read(expected, timeout_s)


class TopicLog:
    """The messages of a topic, for those who read it often: each reading goes on where the last one ended.

    Args:
        bootstrap: the value of `bootstrap.servers`.
        topic: an existing topic; it is not made anew meanwhile.
    """

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap, self._topic = bootstrap, topic
        self._next: dict[int, int] = {}
        self._messages: list[Message] = []

    def read(self, expected: int = 0, timeout_s: float = 20.0) -> list[Message]:
        """All messages up to the present ends; `read_all` has the arguments.

        Somebody may go on writing: without `expected` an end is reached when it is met once.
        """
        consumer = _reader(self._bootstrap, {"enable.partition.eof": True, "auto.offset.reset": "earliest"})
        try:
            unread = set(_partitions(consumer, self._topic))
            places = [KafkaPartition(self._topic, at, self._next.get(at, OFFSET_BEGINNING)) for at in unread]
            consumer.assign(places)
            deadline = time.monotonic() + timeout_s
            while unread or len(self._messages) < expected:
                if time.monotonic() > deadline:
                    found = f"{len(self._messages)} of {expected or 'all'} messages"
                    pytest.fail(f"{found} in {self._topic} after {timeout_s:g} s")
                for message in consumer.consume(1000, timeout=0.1):
                    if (error := message.error()) is None:
                        if expected:
                            unread.add(_partition(message))
                        self._next[_partition(message)] = (message.offset() or 0) + 1
                        self._messages.append(message)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        unread.discard(_partition(message))
            return list(self._messages)
        finally:
            consumer.close()


def end_offsets(bootstrap: str, topic: str) -> dict[int, int]:
    """The offset after the last message of each partition."""
    consumer = _reader(bootstrap, {})
    try:
        return {
            each: consumer.get_watermark_offsets(KafkaPartition(topic, each), timeout=REQUEST_TIMEOUT_S)[1]
            for each in _partitions(consumer, topic)
        }
    finally:
        consumer.close()


def committed(bootstrap: str, group: str, topic: str) -> dict[int, int]:
    """The committed offset of each partition for which the group has one."""
    asker = group_asker(bootstrap, group)
    try:
        return committed_as_told_to(asker, topic)
    finally:
        asker.close()


def group_asker(bootstrap: str, group: str) -> Consumer:
    """A client that can ask for a group's offsets and never joins it.

    No admin client: that of librdkafka 2.16 crashes on the answer of a broker that has just started.
    """
    return Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": 0})


def committed_as_told_to(asker: Consumer, topic: str) -> dict[int, int]:
    """`committed` for those who ask often; asked again while the brokers can't answer, for they have just started."""
    deadline = time.monotonic() + 3 * REQUEST_TIMEOUT_S
    while True:
        try:
            topic_partitions = [KafkaPartition(topic, partition) for partition in _partitions(asker, topic)]
            found = asker.committed(topic_partitions, REQUEST_TIMEOUT_S)
            return {at.partition: at.offset for at in found if at.error is None and at.offset >= 0}
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def create_topic(admin: AdminClient, name: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
    """Make a topic and wait until every partition has a leader."""
    topic = NewTopic(name, num_partitions=partitions, config=dict(config or {}))
    admin.create_topics([topic])[name].result(REQUEST_TIMEOUT_S)
    _await_leaders(admin, name, partitions)


def add_partitions(admin: AdminClient, name: str, partitions: int) -> None:
    """Let a topic have more partitions and wait until every one has a leader."""
    admin.create_partitions([NewPartitions(name, partitions)])[name].result(REQUEST_TIMEOUT_S)
    _await_leaders(admin, name, partitions)


def _await_leaders(admin: AdminClient, name: str, partitions: int) -> None:
    deadline = time.monotonic() + REQUEST_TIMEOUT_S
    while time.monotonic() < deadline:
        topic = admin.list_topics(name, timeout=REQUEST_TIMEOUT_S).topics[name]
        if len(topic.partitions) == partitions and all(each.leader >= 0 for each in topic.partitions.values()):
            return
        time.sleep(0.02)
    pytest.fail(f"topic {name} got no leaders within {REQUEST_TIMEOUT_S:g} s")


def leader_of(bootstrap: str, topic: str, partition: int) -> int:
    """The node id of a partition's leader."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    return int(admin.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic].partitions[partition].leader)


def in_sync(bootstrap: str, copies: int) -> bool:
    """Whether every partition of the cluster has so many copies in sync."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        topics = admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics
    except KafkaException:
        return False
    return all(len(each.isrs) >= copies for topic in topics.values() for each in topic.partitions.values())


def delete_topics(admin: AdminClient, names: list[str]) -> None:
    """Delete topics as far as that works: the broker may be gone on purpose."""
    for deleted in (admin.delete_topics(names, request_timeout=5) if names else {}).values():
        try:
            deleted.result(5)
        except (KafkaException, TimeoutError):
            continue


def _reader(bootstrap: str, settings: dict[str, Any]) -> Consumer:
    base = {"bootstrap.servers": bootstrap, "group.id": unique("reader"), "enable.auto.commit": False}
    return Consumer(base | {"fetch.wait.max.ms": 20} | settings)


def _partitions(consumer: Consumer, topic: str) -> list[int]:
    return sorted(consumer.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic].partitions)


def _partition(message: Message) -> int:
    partition = message.partition()
    assert partition is not None
    return partition
