"""The brokers' side of a start in fixed mode: cluster, topics, logs and committed offsets, asked for once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined] # exported there

from drakkar_flow.kernel.recovery_start import Committed, committed_of
from drakkar_flow.model.record import TopicPartition

__all__ = ["BrokerState", "read_brokers", "topics_matching"]

_ASK_S = 10.0  # the longest of each request
_MOCK_CLUSTER = "mockCluster"  # beginning of the cluster id of librdkafka's mock broker


class BrokerState(NamedTuple):
    """State of the brokers.

    - `cluster_id`: empty if the brokers have none.
    - `topic_ids`: by topic; empty before Kafka 2.8, and on librdkafka's mock broker.
    - `logs`: first offset and end of each partition.
    - `committed`: the group's commits.
    """

    cluster_id: str
    topic_ids: dict[str, str]
    logs: dict[TopicPartition, tuple[int, int]]
    committed: dict[TopicPartition, Committed]


def topics_matching(wanted: Iterable[str], found: Iterable[str]) -> list[str]:
    """Return the topics that are named, or match a pattern that begins with `^`.

    >>> topics_matching(["in", "^log-"], ["in", "inner", "log-a"])
    ['in', 'log-a']
    """
    patterns = [re.compile(each) if each.startswith("^") else each for each in wanted]
    return [
        name
        for name in found
        if any(each == name if isinstance(each, str) else each.match(name) is not None for each in patterns)
    ]


def read_brokers(client: Mapping[str, Any], group: str, topics: Iterable[str]) -> BrokerState:
    """Ask the brokers for everything that a start needs.

    Raises:
        KafkaException: the brokers don't answer.
    """
    admin = AdminClient({**client, "log_level": 0})
    metadata = admin.list_topics(timeout=_ASK_S)
    names = topics_matching(topics, metadata.topics)
    partitions = [KafkaPartition(name, number) for name in names for number in metadata.topics[name].partitions]
    starts = _offsets(admin, partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
    ends = _offsets(admin, partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
    logs = {at: (starts[at], ends[at]) for at in starts}
    cluster_id = metadata.cluster_id or ""
    ids = _unknown_ids(names) if cluster_id.startswith(_MOCK_CLUSTER) else _ids(admin, names)
    return BrokerState(cluster_id, ids, logs, _committed(client, group, partitions))


def _offsets(admin: AdminClient, partitions: list[KafkaPartition], spec: OffsetSpec) -> dict[TopicPartition, int]:
    asked = admin.list_offsets(dict.fromkeys(partitions, spec), request_timeout=_ASK_S) if partitions else {}
    return {(at.topic, at.partition): answer.result(_ASK_S).offset for at, answer in asked.items()}


def _ids(admin: AdminClient, topics: list[str]) -> dict[str, str]:
    if not topics:
        return {}
    asked = admin.describe_topics(TopicCollection(topics), request_timeout=_ASK_S)
    found = _unknown_ids(topics)
    for topic, answer in asked.items():
        try:
            found[topic] = str(answer.result(2 * _ASK_S).topic_id)
        except KafkaException as exc:  # not allowed: the id is unknown
            if exc.args[0].code() == KafkaError._TIMED_OUT:  # noqa: SLF001 - librdkafka's public name for it
                raise
    return found


def _unknown_ids(topics: Iterable[str]) -> dict[str, str]:
    """Return empty ids. The mock broker has no controller, for which librdkafka waits before it asks for ids."""
    return dict.fromkeys(topics, "")


def _committed(
    client: Mapping[str, Any], group: str, partitions: list[KafkaPartition]
) -> dict[TopicPartition, Committed]:
    consumer = Consumer({**client, "group.id": group, "enable.auto.commit": False, "log_level": 0})
    try:
        found = consumer.committed(partitions, _ASK_S) if partitions else []
    finally:
        consumer.close()
    read = {(each.topic, each.partition): committed_of(each.offset, each.metadata) for each in found if not each.error}
    return {at: commit for at, commit in read.items() if commit is not None}
