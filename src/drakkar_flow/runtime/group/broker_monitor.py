"""Broker monitor: decides whether the brokers answer, and whether this consumer can still find them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.source import BrokerStateChanged

__all__ = ["BrokerMonitor", "answers_a_new_client"]

_CHECK_S = 2.0  # between two checks of brokers that are down
_ANSWER_S = 1.0  # the longest time that one check may delay the reader


class BrokerMonitor:
    """State of the brokers as the reader's thread sees it; for that thread alone.

    Librdkafka reconnects by itself, but not always (2.16). When the last broker of a cluster shuts down in good order,
    it may answer that there are no brokers. The client then forgets all brokers and never asks `bootstrap.servers`
    again. Brokers that answer a new client and not this one therefore count as forgotten. While the brokers answer no
    client, nothing is concluded.

    Args:
        bus: gets a BrokerStateChanged for each change.
        answers_others: returns True if the brokers answer a new client; may block for a moment.
    """

    def __init__(self, bus: Bus, answers_others: Callable[[], bool]) -> None:
        self._bus = bus
        self._answers_others = answers_others
        self._up: bool | None = None
        self._in_doubt = True  # until the first check: they may answer long before there is an assignment
        self._checked_at = 0.0

    @property
    def up(self) -> bool:
        """False once the brokers are known to be out of reach."""
        return self._up is not False

    def answered(self) -> None:
        """Note an answer of a broker."""
        self._in_doubt = False
        self._set(up=True)

    def down(self, reason: str) -> None:
        """Note that no broker can be reached."""
        self._set(up=False, reason=reason)

    def doubt(self) -> None:
        """Note a sign that no broker may be reachable: the next check decides."""
        self._in_doubt = True

    def forgotten(self, consumer: Consumer, now: float) -> bool:
        """Check the brokers if they are down or in doubt; returns True if only a new consumer can find them.

        Blocks up to 3 s, and checks at most every 2 s.
        """
        if (self.up and not self._in_doubt) or now - self._checked_at < _CHECK_S:
            return False
        self._checked_at = now
        if _answer(consumer):
            self.answered()
            return False
        if (
            self._up is None
        ):  # it was made just now and may still log in; librdkafka reports an error if it can't connect
            return False
        self.down("no broker answers")
        return self._answers_others() and not _answer(consumer)

    def _set(self, *, up: bool, reason: str = "") -> None:
        if up is not self._up:
            self._up = up
            self._bus.emit(BrokerStateChanged(up, reason))


def answers_a_new_client(properties: Mapping[str, Any]) -> bool:
    """Return True if the brokers answer a client with these consumer properties.

    The client joins no group. Blocks up to 1 s.
    """
    client = Consumer({**properties, "log_level": 0})
    try:
        return _answer(client)
    finally:
        client.close()


def _answer(client: Consumer) -> bool:
    try:
        client.list_topics(timeout=_ANSWER_S)
    except KafkaException:
        return False
    return True
