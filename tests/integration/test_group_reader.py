"""The group reader alone, where a whole pipeline would hide what it does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from confluent_kafka.admin import AdminClient

from drakkar_flow.model.outcome import Ack
from drakkar_flow.model.record import Lane
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events import IntakePaused, PartitionsAssigned
from drakkar_flow.runtime.assignments import AssignmentHooks
from drakkar_flow.runtime.bridge import Bridge
from drakkar_flow.runtime.control import Control
from drakkar_flow.runtime.flight import Flight
from drakkar_flow.runtime.group import GroupReader, GroupSettings
from drakkar_flow.runtime.tracker import Tracker
from support.kafka_io import Kafka, MakeCluster, MakeTopic, committed, create_topic, produce
from support.names import unique
from support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


class Member:
    """A member of a group that finishes records as soon as the test takes them."""

    def __init__(self, bootstrap: str, topic: str, group: str) -> None:
        self.paused = False
        self.lanes: set[Lane] = set()
        self.taken: dict[Lane, int] = {}
        self.tracker = Tracker()
        self.flight = Flight(10_000, 1 << 30)
        bus = Bus()
        bus.listen(IntakePaused, self._on_pause)
        bus.listen(PartitionsAssigned, lambda event: self.lanes.update(event.lanes))
        properties = {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": "cooperative-sticky",
            "log_level": 0,
        }
        settings = GroupSettings((topic,), properties, poll_records=50, buffer_records_per_partition=100)
        hooks = AssignmentHooks(Bridge(), bus, None, None, 1.0)
        self.reader = GroupReader(settings, self.flight, Control(1.0), bus, self.tracker.beyond, hooks)
        self.reader.start()

    def take(self) -> int:
        """Finish what is there; returns how many records were finished so far."""
        records = [record for batch in self.reader.pop(1000, 0, 1) for record in batch]
        settled = self.tracker.settle([Ack(record, record.credit) for record in records])
        self.reader.commit(settled.watermarks)
        self.reader.scattered(settled.scattered)
        for assignment, (count, size) in settled.finished.items():
            self.flight.release(assignment, count, size)
            self.taken[assignment[0]] = self.taken.get(assignment[0], 0) + count
        return sum(self.taken.values())

    def _on_pause(self, event: IntakePaused) -> None:
        self.paused = event.paused


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """Closes what a test opens."""
    with ExitStack() as stack:
        yield stack


def test_a_partition_that_went_away_paused_is_read_when_it_comes_back(
    kafka: Kafka, make_topic: MakeTopic, closing: ExitStack
) -> None:
    """The client library remembers a pause across assignments; the reader does not."""
    topic, group = make_topic(partitions=2), unique("group")
    for partition in range(2):
        produce(kafka.bootstrap, topic, [b"x"] * 1000, partition=partition)
    first = Member(kafka.bootstrap, topic, group)
    closing.callback(first.reader.close)
    until(lambda: first.paused and len(first.lanes) == 2, what="both partitions to pause")
    second = Member(kafka.bootstrap, topic, group)
    closing.callback(second.reader.close)
    until(lambda: second.lanes, 30, what="the second member to get a partition")
    first.lanes.clear()
    second.reader.close()
    until(lambda: first.lanes, 30, what="the partition to come back")
    until(lambda: first.take() == 2000, 30, what="every record")
    assert set(first.taken.values()) == {1000}


def test_a_close_does_not_wait_long_for_brokers_that_are_gone(make_cluster: MakeCluster) -> None:
    """The last commit is given up after ten seconds, though a synchronous one would wait on."""
    cluster = make_cluster()
    create_topic(AdminClient({"bootstrap.servers": cluster.bootstrap}), "in", 1)
    produce(cluster.bootstrap, "in", [b"x"] * 100)
    member = Member(cluster.bootstrap, "in", "group")
    until(lambda: member.take() == 100, 30)
    until(lambda: committed(cluster.bootstrap, "group", "in") == {0: 100}, what="the first commit")
    produce(cluster.bootstrap, "in", [b"x"])
    until(lambda: member.reader.statistics().queued == {("in", 0): 1})
    cluster.kill_broker(1)
    assert member.take() == 101
    started = time.monotonic()
    member.reader.close()
    assert time.monotonic() - started < 30
