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

__all__ = ["commit_starts", "starting_reset", "with_known_starts"]

_ASK_S = 5.0  # the longest time of each request to the brokers


def starting_reset(settings: GroupSettings, bus: Bus, metadata: str = "") -> dict[str, str]:
    """Return properties to lay over the consumer's.

    A group that has its starting positions reads partitions without a position from their beginning. They are committed
    with `metadata`.
    """
    if settings.properties.get("auto.offset.reset") != "latest" or settings.client is None:
        return {}
    try:
        known = commit_starts(settings.client, settings.properties["group.id"], settings.topics, metadata)
    except KafkaException as exc:
        bus.emit(ConsumerError(f"the starting positions are not committed: {report(exc)}"))
        return {}
    return {"auto.offset.reset": "earliest"} if known else {}


def with_known_starts(settings: GroupSettings) -> GroupSettings:
    """Return the settings of a reader that gets a start for every partition: only a lost position is reset.

    Records before the end of the log are not skipped then, and the group needs no starting positions.
    """
    if settings.properties.get("auto.offset.reset") != "latest":
        return settings
    return settings._replace(properties={**settings.properties, "auto.offset.reset": "earliest"})


def commit_starts(client: Mapping[str, Any], group: str, topics: Iterable[str], metadata: str = "") -> bool:
    """Commit the ends of all partitions for which the group has no offset yet; blocks up to 20 s.

    Call it before the group is joined: then records written from now on are read, also after a run that read nothing.
    Returns True if the group now has its starting positions: partitions without one were added later and must be read
    from their beginning. The group has none if members are alive that did not commit any.

    Args:
        client: librdkafka properties of the connection.
        group: the consumer group.
        topics: names, and patterns that begin with `^`.
        metadata: that of the commits.

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
            marked = [KafkaPartition(at.topic, at.partition, at.offset, metadata) for at in ends if at.error is None]
            try:
                consumer.commit(offsets=marked, asynchronous=False)
            except KafkaException:  # the group has members: one of them may have committed just now
                return not _missing(consumer, topics)
        return True
    finally:
        consumer.close()


def _missing(consumer: Consumer, topics: Iterable[str]) -> list[tuple[str, int]]:
    """Return the partitions of topics for which the group has committed no offset at all."""
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
