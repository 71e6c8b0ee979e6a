"""The group reader alone, where a whole pipeline would hide what it does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from confluent_kafka.admin import AdminClient

from drakkar_flow.model.assignment import AssignedPartition
from drakkar_flow.model.outcome import Ack
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.source import IntakePaused, PartitionsAssigned
from drakkar_flow.runtime.acknowledgement.commit import Track
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.runtime.group.assignments import AssignmentHooks
from drakkar_flow.runtime.group.broker_monitor import BrokerMonitor
from drakkar_flow.runtime.group.reader import GroupReader, GroupSettings
from drakkar_flow.runtime.stop_signal import StopSignal
from support.kafka_io import Kafka, MakeCluster, MakeTopic, committed, create_topic, produce
from support.names import unique
from support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


class Member:
    """A member of a group that finishes records as soon as the test takes them.

    With `on_revoke` it commits when it has to, no sooner.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        group: str,
        on_revoke: Callable[[list[AssignedPartition]], None] | None = None,
        session_timeout_s: float = 45.0,
    ) -> None:
        self.paused = False
        self.topic_partitions: set[TopicPartition] = set()
        self.taken: dict[TopicPartition, int] = {}
        self.track = Track()
        self.in_flight = InFlight(10_000, 1 << 30)
        bus = Bus()
        bus.listen(IntakePaused, self._on_pause)
        bus.listen(PartitionsAssigned, lambda event: self.topic_partitions.update(event.topic_partitions))
        properties = {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": int(session_timeout_s * 1000),
            "partition.assignment.strategy": "cooperative-sticky",
            "log_level": 0,
        }
        settings = GroupSettings((topic,), properties, poll_records=50, buffer_records_per_partition=100)
        if on_revoke is not None:
            settings = settings._replace(commit_interval_s=600, commit_max_offsets=1_000_000)
        self.loop_thread = EventLoopThread()
        self.loop_thread.open()
        hooks = AssignmentHooks(self.loop_thread, bus, None, on_revoke, 20.0)
        self.reader = GroupReader(settings, self.in_flight, StopSignal(1.0), bus, self.track, hooks)
        self.reader.start()

    def close(self) -> None:
        """Leave the group."""
        self.reader.close()
        self.loop_thread.close()

    def take(self) -> int:
        """Finish what is there; returns how many records were finished so far."""
        records = [record for batch in self.reader.pop(1000, 0, 1) for record in batch]
        (settled,) = self.track.settle([Ack(record, record.credit) for record in records])
        self.reader.commit(settled.watermarks)
        self.reader.out_of_order_ranges(settled.out_of_order_ranges)
        for assignment, (count, size) in settled.finished.items():
            self.in_flight.release(assignment, count, size)
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
    closing.callback(first.close)
    until(lambda: first.paused and len(first.topic_partitions) == 2, what="both partitions to pause")
    second = Member(kafka.bootstrap, topic, group)
    closing.callback(second.close)
    until(lambda: second.topic_partitions, 30, what="the second member to get a partition")
    first.topic_partitions.clear()
    second.close()
    until(lambda: first.topic_partitions, 30, what="the partition to come back")
    until(lambda: first.take() == 2000, 30, what="every record")
    assert set(first.taken.values()) == {1000}


def test_a_client_that_forgot_its_brokers_is_replaced(
    kafka: Kafka, make_topic: MakeTopic, closing: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new consumer takes over: it reads on behind what was committed, and what was read before is fenced."""
    topic, group = make_topic(partitions=2), unique("group")
    for partition in range(2):
        produce(kafka.bootstrap, topic, [b"x"] * 10, partition=partition)
    member = Member(kafka.bootstrap, topic, group, session_timeout_s=6.0)
    closing.callback(member.close)
    until(lambda: member.take() == 20, 30)
    until(lambda: committed(kafka.bootstrap, group, topic) == {0: 10, 1: 10}, what="the commits")
    member.topic_partitions.clear()
    verdicts = iter([True])
    monkeypatch.setattr(BrokerMonitor, "forgotten", lambda *_: next(verdicts, False))
    until(lambda: len(member.topic_partitions) == 2, 60, what="a new assignment of both partitions")
    produce(kafka.bootstrap, topic, [b"x"] * 5, partition=0)
    until(lambda: member.take() == 25, 30)
    assert member.taken == {(topic, 0): 15, (topic, 1): 10}


def test_on_revoke_comes_after_the_last_commit(kafka: Kafka, make_topic: MakeTopic, closing: ExitStack) -> None:
    """What the hook does is done by the time that another member reads on: the release waits for it."""
    topic, group = make_topic(partitions=2), unique("group")
    for partition in range(2):
        produce(kafka.bootstrap, topic, [b"x"] * 10, partition=partition)
    seen: list[tuple[list[AssignedPartition], dict[int, int]]] = []

    def on_revoke(partitions: list[AssignedPartition]) -> None:
        seen.append((partitions, committed(kafka.bootstrap, group, topic)))

    first = Member(kafka.bootstrap, topic, group, on_revoke)
    closing.callback(first.close)
    until(lambda: first.take() == 20, 30)
    second = Member(kafka.bootstrap, topic, group)
    closing.callback(second.close)
    until(lambda: second.topic_partitions, 30, what="the second member to get a partition")
    ((revoked, position),) = seen
    assert [(topic, partition) for partition in revoked] == list(second.topic_partitions)
    assert position == dict.fromkeys(revoked, 10)
    first.close()
    (partitions, position) = seen[1]
    assert {*revoked, *partitions} == {0, 1}
    assert position == {0: 10, 1: 10}


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
    member.close()
    assert time.monotonic() - started < 30


def test_the_lag_of_a_partition_that_is_paused_grows_with_its_end(
    kafka: Kafka, make_topic: MakeTopic, closing: ExitStack
) -> None:
    """A paused partition is not fetched, so librdkafka does not hear of its end: the broker is asked."""
    topic, group = make_topic(partitions=2), unique("group")
    produce(kafka.bootstrap, topic, [b"x"] * 1000, partition=0)
    member = Member(kafka.bootstrap, topic, group)
    closing.callback(member.reader.close)
    topic_partition = (topic, 0)
    until(lambda: member.paused, 60, "the partition was paused")
    until(
        lambda: member.reader.statistics().lag.get(topic_partition) == 1000,
        what="the lag of a partition without a position",
    )
    for end in (1500, 2000):  # the first may still be told by a fetch that was under way
        produce(kafka.bootstrap, topic, [b"x"] * 500, partition=0)
        until(
            lambda end=end: member.reader.statistics().lag.get(topic_partition) == end,  # type: ignore[misc]  # mypy knows no lambda with a default here
            what=f"the lag to grow to {end}",
        )
    until(lambda: member.take() == 2000, 60, "all of it was taken")
    until(lambda: member.reader.statistics().lag == {topic_partition: 0, (topic, 1): 0}, what="the lag to vanish")
