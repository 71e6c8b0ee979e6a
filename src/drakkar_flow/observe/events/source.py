"""Events of the Kafka source: brokers, consumer group, assignment, reading and commits."""

from __future__ import annotations

from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.events.base import Event

__all__ = [
    "AssignmentAwaited",
    "BrokerStateChanged",
    "ClientLogged",
    "CommitFailed",
    "Committed",
    "ConsumerError",
    "IntakePaused",
    "PartitionsAssigned",
    "PartitionsRevoked",
    "RecordsConsumed",
    "RecordsKnownFinished",
    "TopicRecreated",
]


class BrokerStateChanged(Event, frozen=True):
    """The source's connection to its brokers was lost (up=False) or is back."""

    up: bool
    reason: str = ""


class ConsumerError(Event, frozen=True):
    """The consumer reported an error it goes on after."""

    error: str


class ClientLogged(Event, frozen=True):
    """The Kafka client wrote a log line; `level` is of the module `logging`, `facility` the client's kind of line."""

    level: int
    facility: str
    client: str
    text: str


class PartitionsAssigned(Event, frozen=True):
    """Partitions were assigned to this process; `total` are assigned now."""

    topic_partitions: tuple[TopicPartition, ...]
    total: int


class PartitionsRevoked(Event, frozen=True):
    """Partitions were taken from this process; `unfinished` records are left to their next owner."""

    topic_partitions: tuple[TopicPartition, ...]
    total: int
    lost: bool = False
    unfinished: int = 0


class AssignmentAwaited(Event, frozen=True):
    """The group has given no partition for `waited_s` seconds; a member that died counts for `session_timeout_s`."""

    group: str
    waited_s: float
    session_timeout_s: float


class TopicRecreated(Event, frozen=True):
    """A topic was deleted and made anew; `topic_partitions` are read from their beginning."""

    topic: str
    topic_partitions: tuple[TopicPartition, ...]


class IntakePaused(Event, frozen=True):
    """Intake stopped because too much is in flight (paused=True), or goes on."""

    paused: bool
    in_flight: int


class RecordsConsumed(Event, frozen=True):
    """Records of a partition were read from the broker."""

    topic_partition: TopicPartition
    count: int
    size: int


class RecordsKnownFinished(Event, frozen=True):
    """Records were read that an earlier owner of the partition had finished: they are not processed again."""

    topic_partition: TopicPartition
    count: int


class Committed(Event, frozen=True):
    """Offsets (the next to read) were committed, by partition."""

    offsets: tuple[tuple[TopicPartition, int], ...]


class CommitFailed(Event, frozen=True):
    """A commit was refused, for these partitions; it is tried again."""

    error: str
    topic_partitions: tuple[TopicPartition, ...] = ()
