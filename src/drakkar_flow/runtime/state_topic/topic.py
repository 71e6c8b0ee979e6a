"""State topic: created at the start if it is missing, checked if it exists, and grown with the source topics."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined] # exported there
from confluent_kafka.cimpl import NewPartitions, NewTopic

from drakkar_flow.errors import Problem, StartupError
from drakkar_flow.kernel.kafka_errors import report
from drakkar_flow.runtime.recovery.brokers import topics_matching

__all__ = ["KEY", "StateTopic", "replicas_of"]

KEY = "runtime.state.topic"
_ASK_S = 10.0  # the longest request
_AGAIN_S = 0.2  # between two requests for a topic that was created just now
_NEW_SETTINGS = {
    "cleanup.policy": "compact",
    "segment.bytes": str(16 << 20),  # the newest segment is never compacted, and a restore reads all of it
    "min.cleanable.dirty.ratio": "0.1",
}
_DEFAULT_MESSAGE_BYTES = 1_048_588  # of Kafka, where this client may not ask
_OVERHEAD = 256  # of a message in its batch, which the limit is about


class StateTopic:
    """The compacted topic of a flow's state.

    Args:
        client: librdkafka properties of the connection.
        name: name of the topic.
        sources: the topics that the flow reads: names, and patterns that begin with `^`.
    """

    def __init__(self, client: Mapping[str, Any], name: str, sources: Iterable[str]) -> None:
        self.client = dict(client)
        self.name = name
        self.largest_value = _DEFAULT_MESSAGE_BYTES - _OVERHEAD
        """Bytes that a key and its value may have together."""
        self._sources = tuple(sources)

    def prepare(self) -> list[str]:
        """Create the topic, or check it and add missing partitions; returns warnings. Blocks up to 40 s.

        Raises:
            StartupError: it can't be created or grown, it is not compacted (exit code 2), or the brokers do not answer.
        """
        try:
            admin = AdminClient({**self.client, "log_level": 0})
            topics = admin.list_topics(timeout=_ASK_S).topics
            sources = [topics[name] for name in topics_matching(self._sources, topics)]
            needed = max((len(each.partitions) for each in sources), default=1)
            if self.name in topics or not self._create(admin, needed, max(map(replicas_of, sources), default=-1)):
                return [*self._grow(admin, topics, needed), *self._check(admin)]
            return self._check(admin)
        except (KafkaException, TimeoutError) as exc:
            what = f"the state topic {self.name!r} can't be prepared: {report(exc)}"
            raise StartupError([Problem(KEY, what)]) from exc

    def grow(self, admin: AdminClient, count: int) -> None:
        """Let the topic have at least `count` partitions: the source topic has more now.

        Raises:
            KafkaException, TimeoutError: the brokers refuse or do not answer.
        """
        topics = admin.list_topics(self.name, timeout=_ASK_S).topics
        if topics[self.name].error is not None:
            raise KafkaException(topics[self.name].error)
        if len(topics[self.name].partitions) < count:
            self._add_partitions(admin, count)

    def _create(self, admin: AdminClient, partitions: int, replicas: int) -> bool:
        topic = NewTopic(self.name, num_partitions=partitions, replication_factor=replicas, config=_NEW_SETTINGS)
        try:
            admin.create_topics([topic], operation_timeout=_ASK_S, request_timeout=_ASK_S)[self.name].result(2 * _ASK_S)
        except KafkaException as exc:
            if exc.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return False
            remedy = (
                f"allow this client to create it, or create it: {partitions} partitions, cleanup.policy=compact, "
                f"segment.bytes={_NEW_SETTINGS['segment.bytes']}"
            )
            what = f"the state topic {self.name!r} can't be created: {report(exc)}"
            raise StartupError([Problem(KEY, what, remedy)], exit_code=2) from exc
        return True

    def _grow(self, admin: AdminClient, topics: Mapping[str, Any], needed: int) -> list[str]:
        present = len(
            (topics.get(self.name) or admin.list_topics(self.name, timeout=_ASK_S).topics[self.name]).partitions
        )
        if present >= needed:
            return []
        try:
            self._add_partitions(admin, needed)
        except KafkaException as exc:
            what = f"the state topic {self.name!r} has {present} partitions, {needed} are needed: {report(exc)}"
            remedy = f"allow this client to alter the topic, or give it {needed} partitions"
            raise StartupError([Problem(KEY, what, remedy)], exit_code=2) from exc
        what = f"the source topic has {needed} partitions, more than before ({present})"
        return [f"{what}: keys that move to another partition have no state there"]

    def _add_partitions(self, admin: AdminClient, count: int) -> None:
        added = admin.create_partitions([NewPartitions(self.name, count)], request_timeout=_ASK_S)
        try:
            added[self.name].result(2 * _ASK_S)
        except KafkaException as exc:
            if exc.args[0].code() != KafkaError.INVALID_PARTITIONS:  # another worker was first
                raise

    def _check(self, admin: AdminClient) -> list[str]:
        """Check the settings; returns a warning if this client may not ask for them."""
        try:
            found = self._settings(admin)
        except KafkaException as exc:
            if exc.args[0].code() != KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise
            return [f"the settings of the state topic {self.name!r} are not checked: this client may not read them"]
        self.largest_value = int(found["max.message.bytes"].value) - _OVERHEAD
        if (policy := found["cleanup.policy"].value) != "compact":
            what = f"the state topic {self.name!r} has cleanup.policy={policy}: the brokers would delete state"
            remedy = "set cleanup.policy=compact on the topic, or name another topic"
            raise StartupError([Problem(KEY, what, remedy)], exit_code=2)
        return []

    def _settings(self, admin: AdminClient) -> Mapping[str, Any]:
        """Ask for the settings; a broker may not know yet a topic that was created just now."""
        resource, deadline = ConfigResource(ConfigResource.Type.TOPIC, self.name), time.monotonic() + _ASK_S
        while True:
            asked = admin.describe_configs([resource], request_timeout=_ASK_S)[resource]
            try:
                return dict(asked.result(2 * _ASK_S))
            except KafkaException as exc:
                if exc.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART or time.monotonic() > deadline:
                    raise
                time.sleep(_AGAIN_S)


def replicas_of(topic: Any) -> int:
    """Return the replication factor of a topic, as its metadata has it."""
    return min((len(each.replicas) for each in topic.partitions.values()), default=1)
