"""Start of a flow with a recovery store: its identity, the start of every partition, and what would refuse it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from confluent_kafka import KafkaError, KafkaException

from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.sections.kafka import client_properties
from drakkar_flow.config.sections.recovery import RecoveryStoreConfig
from drakkar_flow.engine.build import resolve_topics
from drakkar_flow.engine.rights import admin_client, described_group, error_text
from drakkar_flow.errors import Problem, StartupError
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.kernel.partition_row import StateKey
from drakkar_flow.kernel.recovery_start import Log, Start, StartPolicy, StartRefused, decide_start
from drakkar_flow.kernel.store_identity import StoredTopic, StoreIdentity
from drakkar_flow.kernel.stored_values import unreadable_values
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.runtime.recovery.brokers import BrokerState, read_brokers
from drakkar_flow.runtime.recovery.store import Store

__all__ = ["active_members", "brokers_of", "identity_of", "plan_starts", "value_problems"]

_UNKNOWN_MEMBERS = {
    KafkaError._UNSUPPORTED_FEATURE,  # noqa: SLF001 - librdkafka's public name for it
    KafkaError.UNSUPPORTED_VERSION,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
_ACROSS = "across partitions"  # state of one kind is not that of the other, though the step's id is the same
_KEPT = "kept"  # the identity only names the steps with state: values carry the version of their model themselves


def brokers_of(flow: StreamFlow, config: DrakkarConfig) -> BrokerState:
    """Ask the brokers for cluster, topics, logs and commits of a flow's source.

    Raises:
        StartupError: the brokers do not answer.
    """
    kafka = resolve_topics(flow, config).kafka
    try:
        return read_brokers(client_properties(kafka), kafka.consumer_group, kafka.topics)
    except (KafkaException, TimeoutError) as exc:
        raise _unreachable(config, exc) from None


def identity_of(flow: StreamFlow, config: DrakkarConfig, brokers: BrokerState) -> StoreIdentity:
    """Return the identity of a flow's store.

    Timers and watermarks are parts of their step: a step may lose its timers and keep its state.
    """
    return StoreIdentity(
        flow=flow.name,
        group=config.kafka.consumer_group,
        cluster_id=brokers.cluster_id,
        topics={topic: StoredTopic(topic_id) for topic, topic_id in brokers.topic_ids.items()},
        schema={step: _kept(flow, step) for step, _ in flow.state_codecs() if "." not in step},
    )


def _kept(flow: StreamFlow, step: str) -> str:
    """Return where the state of a step is kept, for the identity."""
    return _ACROSS if any(each == step and node is flow.across for each, node in flow.steps()) else _KEPT


def plan_starts(
    flow: StreamFlow, config: DrakkarConfig, recovery: RecoveryStoreConfig, store: Store, brokers: BrokerState
) -> dict[TopicPartition, Start | StartRefused]:
    """Decide the start of every partition."""
    policy = StartPolicy(
        has_state=any(flow.state_codecs()),
        first_start=store.first_start,
        on_lost=recovery.on_lost,
        on_incompatible=recovery.on_incompatible,
        auto_offset_reset=config.kafka.auto_offset_reset,
    )
    plan = {}
    for at, (first, end) in brokers.logs.items():
        stored = store.found.rows.get(at)
        log = Log(first, end, stored is None or store.is_same_topic(at[0], stored.epoch))
        row = stored.row if stored is not None else None
        committed = brokers.committed.get(at)
        if committed is not None and not config.runtime.commit_metadata_bytes:
            committed = committed._replace(ours=True)  # no commit has metadata: whose it is, is unknown
        plan[at] = decide_start(at, row, committed, log, policy)
    return plan


def value_problems(flow: StreamFlow, states: Iterable[Mapping[StateKey, bytes]], now_ms: int) -> Iterator[Problem]:
    """Yield stored values that the flow's models can't read, as `unreadable_values` finds them."""
    for step, key, error in unreadable_values(dict(flow.state_codecs()), states, now_ms):
        yield Problem(f"state of {step}", f"key {key!r}: {error}")


def active_members(config: DrakkarConfig) -> list[str]:
    """Return the client ids of the group's members: the brokers refuse commits of others while there are any.

    Where this client may not ask, or the brokers can't answer, there are none: the first commit shows it.

    Raises:
        StartupError: the brokers do not answer.
    """
    try:
        client = admin_client(client_properties(config.kafka))
        return [member.client_id for member in described_group(client, config.kafka.consumer_group).members]
    except (KafkaException, TimeoutError) as exc:
        if isinstance(exc, KafkaException) and exc.args[0].code() in _UNKNOWN_MEMBERS:
            return []
        raise _unreachable(config, exc) from None


def _unreachable(config: DrakkarConfig, exc: Exception) -> StartupError:
    what = f"the brokers at {config.kafka.brokers} do not answer: {error_text(exc)}"
    return StartupError([Problem("kafka.brokers", what, "start the brokers, or fix kafka.brokers and kafka.security")])
