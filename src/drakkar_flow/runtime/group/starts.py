"""Starting positions of a group that begins at the end of its topics (`auto_offset_reset: latest`)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow.kernel.kafka_errors import report
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.source import ConsumerError
from drakkar_flow.runtime.group.settings import GroupSettings

__all__ = ["commit_starts", "starting_reset"]

_ASK_S = 5.0  # how long each question to the brokers may take


def starting_reset(settings: GroupSettings, bus: Bus) -> dict[str, str]:
    """Properties to lay over the consumer's: a group that has its starting positions reads what has none from its
    beginning."""
    if settings.properties.get("auto.offset.reset") != "latest" or settings.client is None:
        return {}
    try:
        known = commit_starts(settings.client, settings.properties["group.id"], settings.topics)
    except KafkaException as exc:
        bus.emit(ConsumerError(f"the starting positions are not committed: {report(exc)}"))
        return {}
    return {"auto.offset.reset": "earliest"} if known else {}


def commit_starts(client: Mapping[str, Any], group: str, topics: Iterable[str]) -> bool:
    """Commit the ends of all partitions of topics for which the group has no offset yet; blocks up to 20 s.

    To be called before the group is joined, so that what is written from then on is read, also after a life that
    read nothing. Returns whether the group now has its starting positions: partitions without one were added later
    and are to be read from their beginning. It has none if members are alive that did not commit any.

    Args:
        client: librdkafka properties of the connection.
        group: the consumer group.
        topics: names, and patterns that begin with `^`.

    Raises:
        KafkaException: the brokers don't answer.
    """
    consumer = Consumer({**client, "group.id": group, "enable.auto.commit": False, "log_level": 0})
    try:
        starts = _missing(consumer, topics)
        if starts:
            ends = consumer.offsets_for_times(
                [KafkaPartition(*topic_partition, OFFSET_END) for topic_partition in starts], timeout=_ASK_S
            )
            try:
                consumer.commit(offsets=[each for each in ends if each.error is None], asynchronous=False)
            except KafkaException:  # the group has members: one of them may have committed just now
                return not _missing(consumer, topics)
        return True
    finally:
        consumer.close()


def _missing(consumer: Consumer, topics: Iterable[str]) -> list[tuple[str, int]]:
    """The partitions of topics of which the group has committed nothing at all."""
    found: list[tuple[str, int]] = []
    for name, topic in consumer.list_topics(timeout=_ASK_S).topics.items():
        if any(_matches(wanted, name) for wanted in topics):
            topic_partitions = [(name, number) for number in topic.partitions]
            committed = (
                consumer.committed(
                    [KafkaPartition(*topic_partition) for topic_partition in topic_partitions], timeout=_ASK_S
                )
                if topic_partitions
                else []
            )
            if all(each.offset < 0 for each in committed):
                found += topic_partitions
    return found


def _matches(wanted: str, topic: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(re.match(wanted, topic)) if wanted.startswith("^") else wanted == topic
