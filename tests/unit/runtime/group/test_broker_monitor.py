"""Connection: brokers that are up, down, in doubt, and forgotten by the client library."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError, KafkaException

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.source import BrokerStateChanged
from drakkar_flow.runtime.group.broker_monitor import BrokerMonitor


class Client:
    """Asks brokers that are there or not, which it may have forgotten."""

    def __init__(self) -> None:
        self.reachable = True
        self.forgetful = False
        self.asked = 0

    def list_topics(self, timeout: float) -> Any:
        self.asked += 1
        if self.forgetful or not self.reachable:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))


def connection(client: Client) -> tuple[BrokerMonitor, list[bool]]:
    """A connection whose other clients reach what `client` could reach, and the states it tells."""
    bus, told = Bus(), list[bool]()
    bus.listen(BrokerStateChanged, lambda event: told.append(event.up))
    return BrokerMonitor(bus, lambda: client.reachable), told


def look(subject: BrokerMonitor, client: Client, now: float) -> bool:
    return subject.forgotten(client, now)  # type: ignore[arg-type]  # a fake of what is used


def test_brokers_that_were_heard_are_not_asked() -> None:
    client = Client()
    subject, told = connection(client)
    subject.answered()

    assert not look(subject, client, 100.0)
    assert client.asked == 0
    assert told == [True]


def test_a_doubt_is_settled_by_an_answer() -> None:
    client = Client()
    subject, told = connection(client)
    subject.answered()
    subject.doubt()

    assert not look(subject, client, 100.0)
    assert not look(subject, client, 200.0)
    assert client.asked == 1
    assert told == [True]


def test_brokers_that_answer_nobody_are_down_and_not_forgotten() -> None:
    client = Client()
    subject, told = connection(client)
    subject.answered()
    client.reachable = False
    subject.doubt()

    assert not look(subject, client, 100.0)
    assert told == [True, False]
    assert not subject.up

    client.reachable = True
    assert not look(subject, client, 200.0)
    assert told == [True, False, True]


def test_brokers_that_answer_others_are_forgotten() -> None:
    """Then only a new consumer finds them."""
    client = Client()
    subject, told = connection(client)
    subject.answered()
    client.forgetful = True
    subject.down("all brokers are down")

    assert look(subject, client, 100.0)
    assert told == [True, False]


def test_a_client_that_found_them_meanwhile_has_not_forgotten() -> None:
    """They came back between its question and the other client's."""
    client = Client()

    def come_back() -> bool:
        client.reachable = True
        return True

    client.reachable = False
    subject = BrokerMonitor(Bus(), come_back)
    subject.doubt()

    assert not look(subject, client, 100.0)


def test_a_look_is_taken_every_two_seconds_at_most() -> None:
    client = Client()
    subject, _ = connection(client)
    client.reachable = False
    subject.down("all brokers are down")

    for now in (100.0, 100.1, 101.9, 102.0):
        look(subject, client, now)

    assert client.asked == 2


def test_n9_brokers_are_up_as_soon_as_they_answer() -> None:
    """Before there is any assignment; a client that is still connecting says nothing about them."""
    client = Client()
    subject, told = connection(client)
    client.reachable = False
    assert not look(subject, client, 100.0)
    assert told == []
    client.reachable = True
    assert not look(subject, client, 200.0)
    assert told == [True]
