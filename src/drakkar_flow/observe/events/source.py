"""Events of the Kafka source: brokers, consumer group, assignment, reading and commits."""

from __future__ import annotations

from collections.abc import Iterable

from drakkar_flow.model.record import Record, TopicPartition
from drakkar_flow.observe.events.base import Event

__all__ = [
    "TRACE_HEADER",
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
    "RecordsTraced",
    "TopicRecreated",
    "traced_offsets",
]

TRACE_HEADER = "drakkar-trace"
"""Header of records whose way through the flow is recorded."""


class BrokerStateChanged(Event, frozen=True):
    """The source lost the connection to its brokers (up=False), or has it again (up=True)."""

    up: bool
    reason: str = ""


class ConsumerError(Event, frozen=True):
    """The consumer reported an error and continues."""

    error: str


class ClientLogged(Event, frozen=True):
    """The Kafka client wrote a log line; `level` is one of the module `logging`, `facility` the client's category."""

    level: int
    facility: str
    client: str
    text: str


class PartitionsAssigned(Event, frozen=True):
    """Partitions were assigned to this process; `total` is the number of assigned partitions."""

    topic_partitions: tuple[TopicPartition, ...]
    total: int


class PartitionsRevoked(Event, frozen=True):
    """Partitions were revoked from this process; their next owner reads the `unfinished` records again."""

    topic_partitions: tuple[TopicPartition, ...]
    total: int
    lost: bool = False
    unfinished: int = 0


class AssignmentAwaited(Event, frozen=True):
    """The group has assigned no partition for `waited_s` seconds; a dead member keeps its for `session_timeout_s`."""

    group: str
    waited_s: float
    session_timeout_s: float


class TopicRecreated(Event, frozen=True):
    """A topic was deleted and created again; `topic_partitions` are read from the beginning."""

    topic: str
    topic_partitions: tuple[TopicPartition, ...]


class IntakePaused(Event, frozen=True):
    """Intake was paused because too much is in flight (paused=True), or resumed (paused=False)."""

    paused: bool
    in_flight: int


class RecordsConsumed(Event, frozen=True):
    """Records of a partition were read from the broker, `first` to `last` of one assignment; -1 if unknown."""

    topic_partition: TopicPartition
    count: int
    size: int
    first: int = -1
    last: int = -1
    epoch: int = 0


class RecordsTraced(Event, frozen=True):
    """Records of a partition were read that have the header `drakkar-trace`; made only while a listener needs it."""

    topic_partition: TopicPartition
    offsets: tuple[int, ...]


def traced_offsets(records: Iterable[Record]) -> tuple[int, ...]:
    """Return the offsets of the records with the header `drakkar-trace`.

    >>> traced_offsets([Record("in", 0, 7, headers=[("drakkar-trace", b"1")]), Record("in", 0, 8)])
    (7,)
    """
    headed = [(record.offset, record.headers) for record in records if record.headers]
    return tuple([offset for offset, headers in headed if any(name == TRACE_HEADER for name, _ in headers)])


class RecordsKnownFinished(Event, frozen=True):
    """Records were read that an earlier owner of the partition has finished; they are not processed again."""

    topic_partition: TopicPartition
    count: int


class Committed(Event, frozen=True):
    """Offsets were committed, by partition; each is that of the next record to read."""

    offsets: tuple[tuple[TopicPartition, int], ...]


class CommitFailed(Event, frozen=True):
    """A commit of these partitions was refused; it is retried."""

    error: str
    topic_partitions: tuple[TopicPartition, ...] = ()
