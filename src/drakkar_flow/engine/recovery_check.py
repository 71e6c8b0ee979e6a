"""Recovery store of a flow: its identity, the start of every partition, and its checks against the brokers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.sections.kafka import client_properties
from drakkar_flow.config.sections.recovery import RecoveryStoreConfig
from drakkar_flow.engine.build import resolve_topics
from drakkar_flow.engine.rights import ASK_S, admin_client, described_group, error_text, matching_topics
from drakkar_flow.errors import Problem, StartupError
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.kernel.recovery_start import (
    Committed,
    Log,
    Start,
    StartPolicy,
    StartRefused,
    committed_of,
    decide_start,
)
from drakkar_flow.kernel.store_identity import StoredTopic, StoreIdentity
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.runtime.recovery.store import Store

__all__ = ["active_members", "identity_of", "plan_starts"]

Starts = dict[TopicPartition, Start | StartRefused]


def identity_of(flow: StreamFlow, config: DrakkarConfig, schema: Mapping[str, str]) -> StoreIdentity:
    """Ask the brokers for the identity of a flow's store; `schema` maps steps with state to model fingerprints.

    Raises:
        StartupError: the brokers do not answer (exit code 1), or a source topic does not exist (2).
    """
    config = resolve_topics(flow, config)
    kafka = config.kafka
    try:
        client = admin_client(client_properties(kafka))
        cluster = client.describe_cluster(request_timeout=ASK_S).result(2 * ASK_S)
        topics = matching_topics(client, kafka.topics)
        asked = client.describe_topics(TopicCollection(topics), request_timeout=ASK_S) if topics else {}
        ids = {topic: str(answer.result(2 * ASK_S).topic_id) for topic, answer in asked.items()}
    except (KafkaException, TimeoutError) as exc:
        raise _unreachable(config, exc) from None
    return StoreIdentity(
        flow=flow.name,
        group=kafka.consumer_group,
        cluster_id=cluster.cluster_id or "",
        topics={topic: StoredTopic(topic_id) for topic, topic_id in ids.items()},
        schema=dict(schema),
    )


def plan_starts(store: Store, identity: StoreIdentity, config: DrakkarConfig, recovery: RecoveryStoreConfig) -> Starts:
    """Decide the start of every partition of the identity's topics.

    Raises:
        StartupError: the brokers do not answer.
    """
    kafka = config.kafka
    policy = StartPolicy(
        has_state=bool(identity.schema),
        first_start=store.first_start,
        on_lost=recovery.on_lost,
        on_incompatible=recovery.on_incompatible,
        auto_offset_reset=kafka.auto_offset_reset,
    )
    try:
        reader = Consumer({**client_properties(kafka), "group.id": kafka.consumer_group, "log_level": 0})
        try:
            return {
                at: decide_start(at, row.row if row else None, committed, log, policy)
                for at, committed, start, end in _offsets(reader, identity.topics)
                for row in [store.found.rows.get(at)]
                for log in [Log(start, end, row is None or store.is_same_topic(at[0], row.epoch))]
            }
        finally:
            reader.close()
    except (KafkaException, TimeoutError) as exc:
        raise _unreachable(config, exc) from None


def active_members(config: DrakkarConfig) -> list[str]:
    """Return the client ids of the group's members: the brokers refuse commits of others while there are any.

    Raises:
        StartupError: the brokers do not answer.
    """
    try:
        client = admin_client(client_properties(config.kafka))
        return [member.client_id for member in described_group(client, config.kafka.consumer_group).members]
    except (KafkaException, TimeoutError) as exc:
        raise _unreachable(config, exc) from None


def _offsets(
    reader: Consumer, topics: Mapping[str, Any]
) -> Iterator[tuple[TopicPartition, Committed | None, int, int]]:
    """Yield (partition, commit, first offset, end offset)."""
    for topic in topics:
        found = reader.list_topics(topic, timeout=ASK_S).topics[topic]
        for at in reader.committed([KafkaPartition(topic, number) for number in sorted(found.partitions)], ASK_S):
            start, end = reader.get_watermark_offsets(KafkaPartition(topic, at.partition), timeout=ASK_S)
            yield (topic, at.partition), committed_of(at.offset, at.metadata), start, end


def _unreachable(config: DrakkarConfig, exc: Exception) -> StartupError:
    what = f"the brokers at {config.kafka.brokers} do not answer: {error_text(exc)}"
    return StartupError([Problem("kafka.brokers", what, "start the brokers, or fix kafka.brokers and kafka.security")])
