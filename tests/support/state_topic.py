"""The state topic of a scene's flow: what it holds, and changes from outside."""

from __future__ import annotations

import time
from collections.abc import Mapping

from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from drakkar_flow.kernel.partition_row import PartitionRow
from drakkar_flow.kernel.state_messages import Position, position_key, value_key
from drakkar_flow.model.state import StateCodec, key_of
from drakkar_flow.runtime.state_topic.reading import read_state
from support.scene import Scene

__all__ = ["OpenTransaction", "create_state_topic", "numbers", "set_offsets", "state_of"]

_NUMBERS = StateCodec(int)


def state_of(scene: Scene, flow: str) -> dict[tuple[str, int], PartitionRow]:
    """Position and state of each partition."""
    return read_state({"bootstrap.servers": scene.bootstrap}, "reader", f"{scene.group}.{flow}.state")


def numbers(scene: Scene, flow: str, partition: int | None = None) -> dict[object, int]:
    """The numbers by key, of one partition, or of all; no key may be in two then."""
    found: dict[object, int] = {}
    for (_, number), row in state_of(scene, flow).items():
        for (_, key), value in row.state.items() if partition in (None, number) else ():
            assert key_of(key) not in found
            found[key_of(key)] = _NUMBERS.decode(value)
    return found


def set_offsets(scene: Scene, offsets: Mapping[int, int]) -> None:
    """Set the group's offsets, as kafka-consumer-groups.sh does; the group must have no members."""
    consumer = Consumer({"bootstrap.servers": scene.bootstrap, "group.id": scene.group, "enable.auto.commit": False})
    consumer.commit(
        offsets=[KafkaPartition(scene.source, partition, offset) for partition, offset in offsets.items()],
        asynchronous=False,
    )
    consumer.close()


def create_state_topic(scene: Scene, name: str, **settings: str) -> None:
    """Create a topic with settings, in place of the worker."""
    topic = NewTopic(name, num_partitions=scene.partitions, config=settings)
    admin = AdminClient({"bootstrap.servers": scene.bootstrap})
    admin.create_topics([topic])[name].result(30)


class OpenTransaction:
    """A transaction of a member that ended: it has written numbers and an offset of partition 0, and is not decided.

    The brokers abort it after `timeout_s`.
    """

    def __init__(
        self, scene: Scene, flow: str, step: str, values: Mapping[str, int], position: Position, timeout_s: int
    ) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": scene.bootstrap,
                "transactional.id": f"{scene.group}.dead",
                "transaction.timeout.ms": timeout_s * 1000,
            }
        )
        self._producer.init_transactions(30)
        self._producer.begin_transaction()
        topic = f"{scene.group}.{flow}.state"
        for key, number in values.items():
            value = _NUMBERS.encode(number, now_ms=int(time.time() * 1000))
            self._producer.produce(topic, value, value_key(scene.source, (step, key)), 0)
        self._producer.produce(topic, position.encode(), position_key(scene.source), 0)
        self._producer.flush(30)
        stranger = Consumer({"bootstrap.servers": scene.bootstrap, "group.id": scene.group})
        offset = KafkaPartition(scene.source, 0, position.offset)
        # A client without membership: the brokers take its offsets as they did a member's before it ended.
        self._producer.send_offsets_to_transaction([offset], stranger.consumer_group_metadata(), 30)
        stranger.close()

    def commit(self) -> None:
        """Decide it."""
        self._producer.commit_transaction(30)
