"""Status of a flow's consumer group, read from the brokers without joining it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.sections.kafka import client_properties
from drakkar_flow.engine.build import resolve_topics, with_brokers
from drakkar_flow.engine.rights import ASK_S, admin_client, described_group, error_text, matching_topics
from drakkar_flow.errors import Problem, StartupError
from drakkar_flow.graph.flow import StreamFlow

__all__ = ["GroupStatus", "Member", "PartitionStatus", "group_status"]


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the group: its client id, host, and its partitions as `topic-partition`."""

    client_id: str
    host: str
    partitions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """A source partition: first offset, end offset, committed offset (None: none yet), and the records left to read."""

    topic: str
    partition: int
    first: int
    committed: int | None
    end: int
    lag: int


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """State of a consumer group; `dlq_records` is the number of stored dead letters, None without a topic."""

    group: str
    state: str
    members: tuple[Member, ...]
    partitions: tuple[PartitionStatus, ...]
    dlq_topic: str
    dlq_records: int | None

    @property
    def lag(self) -> int:
        """Records left to read, all partitions together."""
        return sum(each.lag for each in self.partitions)

    def to_json(self) -> dict[str, Any]:
        """Return the status as JSON-compatible data."""
        return {**asdict(self), "lag": self.lag}


def group_status(flow: StreamFlow, config: DrakkarConfig) -> GroupStatus:
    """Query the brokers for the state, members, offsets and dead letters of a flow.

    Raises:
        StartupError: the brokers do not answer or refuse (exit code 1), or a source topic does not exist (2).
    """
    config = resolve_topics(flow, config)
    kafka = config.kafka
    try:
        state, members = _group(kafka.consumer_group, client_properties(kafka))
        topics = matching_topics(admin_client(client_properties(kafka)), kafka.topics)
        reader = Consumer({**client_properties(kafka), "group.id": kafka.consumer_group, "log_level": 0})
        try:
            partitions = [each for topic in topics for each in _partitions(reader, topic, kafka.auto_offset_reset)]
        finally:
            reader.close()
        dlq_records = _records(config)
    except (KafkaException, TimeoutError) as exc:
        what = f"the brokers at {kafka.brokers} do not answer: {error_text(exc)}"
        remedy = "start the brokers, or fix kafka.brokers and kafka.security"
        raise StartupError([Problem("kafka.brokers", what, remedy)]) from None
    return GroupStatus(kafka.consumer_group, state, members, tuple(partitions), config.dead_letter_topic, dlq_records)


def _group(group: str, properties: dict[str, Any]) -> tuple[str, tuple[Member, ...]]:
    client = admin_client(properties)  # answers arrive only while the client is referenced
    found = described_group(client, group)
    members = [
        Member(
            member.client_id,
            member.host.lstrip("/"),
            tuple(f"{at.topic}-{at.partition}" for at in getattr(member.assignment, "topic_partitions", None) or ()),
        )
        for member in found.members
    ]
    return found.state.name.lower(), tuple(members)


def _partitions(reader: Consumer, topic: str, reset: str) -> list[PartitionStatus]:
    found = reader.list_topics(topic, timeout=ASK_S).topics[topic]
    if found.error is not None:
        remedy = "create it: drakkar-flow topics create FLOW"
        raise StartupError(
            [Problem("kafka.source_topic", f"topic {topic!r}: {found.error.str()}", remedy)], exit_code=2
        )
    asked = [KafkaPartition(topic, partition) for partition in sorted(found.partitions)]
    status = []
    for at in reader.committed(asked, ASK_S):
        first, end = reader.get_watermark_offsets(KafkaPartition(topic, at.partition), timeout=ASK_S)
        committed = at.offset if at.offset >= 0 else None
        start = committed if committed is not None else (first if reset == "earliest" else end)
        status.append(PartitionStatus(topic, at.partition, first, committed, end, max(0, end - max(first, start))))
    return status


def _records(config: DrakkarConfig) -> int | None:
    dlq = with_brokers(config.dlq, config.kafka)
    properties = {
        **dlq.client_config,
        "bootstrap.servers": dlq.brokers,
        "group.id": "drakkar-flow-status",
        "log_level": 0,
    }
    reader = Consumer(properties)
    try:
        found = reader.list_topics(config.dead_letter_topic, timeout=ASK_S).topics[config.dead_letter_topic]
        if found.error is not None:
            return None
        bounds = [
            reader.get_watermark_offsets(KafkaPartition(config.dead_letter_topic, partition), timeout=ASK_S)
            for partition in found.partitions
        ]
        return sum(end - first for first, end in bounds)
    finally:
        reader.close()
