"""The client's own lines are limited and counted like all others."""

from __future__ import annotations

import logging
from typing import Any

from confluent_kafka import Consumer

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.source import AssignmentAwaited, ClientLogged
from drakkar_flow.observe.log.listener import LogListener
from drakkar_flow.runtime.group.client_log import ClientLog
from drakkar_flow.runtime.group.joining import Joining
from support.until import until


class Lines:
    """A logger that keeps what it is given."""

    def __init__(self) -> None:
        self.written: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Any:
        return lambda event, **fields: self.written.append((level, event, fields))


def test_g13_repeated_lines_of_the_client_are_counted_not_written() -> None:
    """Each kind for itself."""
    lines, bus = Lines(), Bus()
    listener = LogListener(lines, clock=lambda: 0.0)
    listener.listen(bus)
    log = ClientLog(bus)
    for number in range(100):
        log.log(logging.ERROR, "%s [%s] %s", "FAIL", "rdkafka#consumer-1", f"Connection refused {number}")
    log.log(logging.WARNING, "%s [%s] %s", "OFFSET", "rdkafka#consumer-1", "offset reset")
    listener.close()
    events = [(level, event, fields.get("facility")) for level, event, fields in lines.written]
    assert events[:5] == [("error", "kafka_client_log", "FAIL")] * 5
    assert events[5] == ("warning", "kafka_client_log", "OFFSET")
    assert lines.written[6][1:] == ("lines_suppressed", {"of": "kafka_client_log", "key": ["FAIL"], "suppressed": 95})


def test_g13_the_client_takes_it_for_a_logger() -> None:
    """A real consumer without brokers writes to it."""
    bus = Bus()
    heard: list[ClientLogged] = []
    bus.listen(ClientLogged, heard.append)
    consumer = Consumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "g"}, logger=ClientLog(bus))
    until(lambda: consumer.poll(0.05) is not None or heard, what="a line")
    consumer.close()
    assert (heard[0].facility, heard[0].level) == ("FAIL", logging.ERROR)


def test_n9_waiting_for_partitions_is_said_once_per_join() -> None:
    """Not when they come soon, nor again while the wait goes on."""
    bus = Bus()
    heard: list[AssignmentAwaited] = []
    bus.listen(AssignmentAwaited, heard.append)
    joining = Joining(bus, "g", 45.0)
    joining.begin(0.0)
    joining.check(4.0)
    assert heard == []
    for now in (6.0, 20.0):
        joining.check(now)
    assert heard == [AssignmentAwaited("g", 6.0, 45.0)]
    joining.begin(30.0)
    joining.end()
    joining.check(60.0)
    assert len(heard) == 1
