"""Events of a consumer group's member that only a worker has."""

from __future__ import annotations

from drakkar_flow.model.record import Lane
from drakkar_flow.observe.events import Event

__all__ = ["AssignmentAwaited", "ClientLogged", "TopicRecreated"]


class ClientLogged(Event, frozen=True):
    """The Kafka client wrote a log line; `level` is of the module `logging`, `facility` the client's kind of line."""

    level: int
    facility: str
    client: str
    text: str


class TopicRecreated(Event, frozen=True):
    """A topic was deleted and made anew; `lanes` are read from their beginning."""

    topic: str
    lanes: tuple[Lane, ...]


class AssignmentAwaited(Event, frozen=True):
    """The group has given no partition for `waited_s` seconds; a member that died counts for `session_timeout_s`."""

    group: str
    waited_s: float
    session_timeout_s: float
