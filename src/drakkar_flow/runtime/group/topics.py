"""Topic ids: detect that a topic was deleted and recreated under its name."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from drakkar_flow.librdkafka import destroy_in_background
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.source import ConsumerError

__all__ = ["Recreated", "TopicWatch"]

_ASK_S = 5.0  # the longest request to the brokers


_VALID_S = 30.0  # the time in which a recreated topic concerns partitions that are assigned later


class Recreated(NamedTuple):
    """A topic got another id between the last sight of the former one and now, in monotonic seconds."""

    topic: str
    known_at: float
    seen_at: float


class TopicWatch:
    """Asks the brokers for the ids of the topics that are read, on a separate thread.

    One request each `interval_s` seconds, and one after `check_soon`. Brokers before 2.8 have no topic ids; nothing
    is concluded there, nor while the brokers don't answer.

    Args:
        client: librdkafka properties of the connection.
        topics: the names of the topics that are read now.
        bus: gets a ConsumerError when a topic is gone.
    """

    def __init__(self, client: Mapping[str, Any], interval_s: float, topics: Callable[[], set[str]], bus: Bus) -> None:
        self._client = dict(client)
        self._interval_s = interval_s
        self._topics = topics
        self._bus = bus
        self._ids: dict[str, tuple[str, float]] = {}
        self._gone: set[str] = set()
        self._recreated: deque[Recreated] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._admin: AdminClient | None = None
        self._thread = threading.Thread(target=self._run, name="drakkar-topics", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def close(self) -> None:
        """Stop asking; returns at once."""
        self._closing = True
        self._wake.set()

    def check_soon(self) -> None:
        """Ask now: partitions were assigned, or a topic may be gone."""
        self._wake.set()

    def recreated(self) -> list[Recreated]:
        """Return the topics that were recreated since the last call and are read now.

        A topic without assigned partitions is kept for 30 s, because a rebalance may be the first sign of it. Later the
        group has positions in the new topic.
        """
        if not self._recreated:
            return []
        now, read = time.monotonic(), self._topics()
        waiting = [self._recreated.popleft() for _ in range(len(self._recreated))]
        self._recreated.extend(each for each in waiting if each.topic not in read and now - each.seen_at < _VALID_S)
        return [each for each in waiting if each.topic in read]

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(self._interval_s)
            self._wake.clear()
            topics = sorted(self._topics() | self._ids.keys())
            if topics and not self._closing:
                self._check_topics(topics)
        self._admin = None

    def _check_topics(self, topics: list[str]) -> None:
        now = time.monotonic()
        try:
            if self._admin is None:
                self._admin = AdminClient({**self._client, "log_level": 0})
            answers = self._admin.describe_topics(TopicCollection(topics), request_timeout=_ASK_S)
            for topic, answer in answers.items():
                self._take(topic, self._id_of(topic, answer), now)
        except (KafkaException, TimeoutError):  # no brokers now; a new client finds those that come back
            destroy_in_background([self._admin])
            self._admin = None

    def _id_of(self, topic: str, answer: Any) -> str:
        """Return the topic's id; empty if the topic does not exist."""
        try:
            found = str(answer.result(_ASK_S + 1.0).topic_id)
        except KafkaException as exc:
            if exc.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
            if topic not in self._gone:
                self._gone.add(topic)
                self._bus.emit(ConsumerError(f"topic {topic!r} was deleted; create it: it is read again then"))
            return ""
        self._gone.discard(topic)
        return found

    def _take(self, topic: str, found: str, now: float) -> None:
        if not found:
            return
        known, known_at = self._ids.get(topic, (found, now))
        self._ids[topic] = (found, now)
        if known != found:
            self._recreated.append(Recreated(topic, known_at, now))
