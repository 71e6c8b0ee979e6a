"""Commits: what is finished beyond an offset travels with it, and the next owner believes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.model.outcome import Ack
from drakkar_flow.model.record import Record
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.source import CommitFailed, ConsumerError
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.acknowledgement.tracker import Tracker
from drakkar_flow.runtime.group.buffers import Buffers, Partition
from drakkar_flow.runtime.group.commit_queue import CommitQueue
from drakkar_flow.runtime.group.offset_committer import OffsetCommitter

LANE = ("in", 0)


@dataclass
class Broker:
    """Keeps what was committed for one partition, as a consumer that answers at once."""

    offset: int = -1001
    metadata: str | None = ""
    largest_metadata: int = 4096
    unreachable: bool = False
    commits: list[tuple[int, str | None]] = field(default_factory=list)
    commits_of: Any = None  # who is told the answer to an asynchronous commit

    def committed(self, partitions: list[KafkaPartition], timeout: float) -> list[KafkaPartition]:
        """What was committed last."""
        if self.unreachable:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return [KafkaPartition(*LANE, self.offset, self.metadata) for _ in partitions]

    def commit(self, offsets: list[KafkaPartition], *, asynchronous: bool) -> None:
        """Take it, unless its metadata is too long."""
        (one,) = offsets
        error = None
        if len(one.metadata or "") > self.largest_metadata:
            error = KafkaError(KafkaError.OFFSET_METADATA_TOO_LARGE)
        else:
            self.offset, self.metadata = one.offset, one.metadata
            self.commits.append((one.offset, one.metadata))
        if asynchronous:
            self.commits_of.on_commit(error, offsets)
        elif error is not None:
            raise KafkaException(error)

    def poll(self, timeout: float) -> None:
        """There is nothing to read; answers were given at once."""


class Life:
    """One assignment of the partition to one process: what it read, and what it finished."""

    def __init__(self, broker: Broker, log: list[int], metadata_size: int = 3072, *, marked: bool = False) -> None:
        self.broker = broker
        self.tracker = Tracker()
        self.positions = CommitQueue(1.0, 1, 0.0)
        self.buffers = Buffers(InFlight(10**6, 10**9), 10**6, 10**9)
        self.events: list[Event] = []
        bus = Bus()
        bus.listen(CommitFailed, self.events.append)
        bus.listen(ConsumerError, self.events.append)
        out_of_order = self.tracker.out_of_order
        self.commits = OffsetCommitter(self.positions, self.buffers, bus, out_of_order, metadata_size, marked=marked)
        broker.commits_of = self.commits
        self.begin(log)

    def begin(self, log: list[int]) -> None:
        """The partition is assigned."""
        self.buffers.assign([LANE], self.commits.begin(self.broker, [KafkaPartition(*LANE)]))  # type: ignore[arg-type]  # a fake of what is used
        self.records = self.read([offset for offset in log if offset >= self.broker.offset])

    def read(self, log: list[int]) -> list[Record]:
        """Deliver what is not known to be finished, as the reader does."""
        records = []
        partition = self.partition
        for offset in log:
            if partition.base < 0:
                partition.base = offset
            partition.read_offset = offset
            if offset in partition.done:
                continue
            records.append(Record(*LANE, offset, epoch=partition.epoch, previous=partition.last_offset))
            partition.last_offset = offset
        return records

    @property
    def partition(self) -> Partition:
        """The assigned partition."""
        found = self.buffers.get(LANE)
        assert found is not None
        return found

    def finish(self, *offsets: int) -> None:
        """Acknowledge records."""
        chosen = [record for record in self.records if record.offset in offsets]
        settled = self.tracker.settle([Ack(record, record.credit) for record in chosen])
        self.positions.note(settled.watermarks)
        self.positions.out_of_order_ranges(settled.out_of_order_ranges)

    def commit(self) -> None:
        """Commit what is due."""
        self.commits.commit_soon(self.broker, 1e9)  # type: ignore[arg-type]  # a fake of what is used


def offsets_of(life: Life) -> list[int]:
    """What a life was given to process."""
    return [record.offset for record in life.records]


def test_what_was_finished_behind_a_slow_record_is_not_done_again() -> None:
    """The offset stays at the slow record; its metadata tells the rest."""
    broker = Broker()
    life = Life(broker, [10, 11, 12, 15, 16])
    life.finish(11, 15)
    life.commit()
    assert broker.offset == 10
    assert offsets_of(Life(broker, [10, 11, 12, 15, 16, 17])) == [10, 12, 16, 17]


def test_the_next_owner_commits_past_what_it_was_told() -> None:
    """When the slow record has finished nothing is left, though no later record was delivered here."""
    broker = Broker()
    first = Life(broker, [5, 6, 7])
    first.finish(6, 7)
    first.commit()
    second = Life(broker, [5, 6, 7])
    assert offsets_of(second) == [5]
    second.finish(5)
    second.commit()
    assert (broker.offset, broker.metadata) == (8, "")
    assert second.positions.uncommitted == 0


def test_a_record_that_is_read_behind_the_commit_that_passed_it_is_not_done_again() -> None:
    """The slow record has finished, and the offset has passed the others before they were read."""
    broker = Broker()
    first = Life(broker, [5, 6, 7])
    first.finish(6, 7)
    first.commit()
    second = Life(broker, [5])
    second.finish(5)
    second.commit()
    assert broker.offset == 8
    assert [record.offset for record in second.read([6, 7, 8])] == [8]


def test_a_revoke_commits_what_is_finished_beyond_the_slow_record() -> None:
    """Synchronously, for partitions that are no longer assigned."""
    broker = Broker()
    life = Life(broker, [1, 2, 3])
    life.finish(2)
    life.commits.commit_now(broker, life.buffers.take_away([LANE]))  # type: ignore[arg-type]  # a fake of what is used
    assert offsets_of(Life(broker, [1, 2, 3])) == [1, 3]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("marked", "largest", "left"),
    [(False, 2, ""), (True, 10, OffsetRanges.MARK), (True, 2, "")],
    ids=["a group's", "a store's", "a store's, where not even its mark fits"],
)
def test_brokers_that_refuse_the_metadata_get_what_they_take(
    marked: bool, largest: int, left: str, at_once: bool
) -> None:
    """Their limit is lower than the default: work may be done again, commits go on, and a store's stay recognisable."""
    broker = Broker(largest_metadata=largest)
    life = Life(broker, [1, 2, 3], marked=marked)
    life.finish(1, 3)
    if at_once:
        life.commits.commit_now(broker, life.buffers.take_away([LANE]))  # type: ignore[arg-type]  # a fake of what is used
    else:
        for _ in range(3):
            life.commit()
    assert broker.commits == [(2, left)]
    refusals = 2 if marked and not left else 1
    assert [type(event) for event in life.events] == [CommitFailed] * refusals


def test_without_the_former_metadata_everything_is_done_again() -> None:
    """Brokers that don't answer in time cost work, never records."""
    broker = Broker(offset=1, metadata=OffsetRanges([(2, 3)]).encode(1, 100), unreachable=True)
    life = Life(broker, [1, 2, 3])
    assert offsets_of(life) == [1, 2, 3]
    assert [type(event) for event in life.events] == [ConsumerError]


def test_nothing_is_told_or_believed_when_it_is_switched_off() -> None:
    """A size of 0."""
    broker = Broker(offset=1, metadata=OffsetRanges([(2, 3)]).encode(1, 100))
    life = Life(broker, [1, 2, 3], metadata_size=0)
    assert offsets_of(life) == [1, 2, 3]
    life.finish(1, 3)
    life.commit()
    assert broker.commits == [(2, "")]


def test_what_a_former_assignment_committed_is_committed_again() -> None:
    """Somebody may have set the offset back in the meantime, and everything was done a second time."""
    broker = Broker(offset=1)
    life = Life(broker, [1, 2])
    life.finish(1, 2)
    life.commits.commit_finally(broker)  # type: ignore[arg-type]  # a fake of what is used
    life.buffers.take_away([LANE])
    life.positions.forget([LANE])
    broker.offset = 1
    life.begin([1, 2])
    life.finish(1, 2)
    life.commits.commit_finally(broker)  # type: ignore[arg-type]  # a fake of what is used
    assert broker.commits == [(3, ""), (3, "")]


@pytest.mark.parametrize("older", [(2, ""), (2, "x"), (3, "x")], ids=["offset", "both", "metadata"])
def test_a_commit_that_an_older_one_overwrote_is_made_again(older: tuple[int, str]) -> None:
    """The client library repeats a request that its connection took down with it, behind later ones."""
    broker = Broker()
    life = Life(broker, [1, 2])
    life.finish(1, 2)
    life.commit()
    newest = (broker.offset, broker.metadata)
    broker.offset, broker.metadata = older
    life.commits.on_commit(None, [KafkaPartition(*LANE, *older)])
    life.commit()
    assert (broker.offset, broker.metadata) == newest == (3, "")
    life.commit()
    assert len(broker.commits) == 2


logs = st.lists(st.integers(min_value=1, max_value=4), min_size=1, max_size=25).map(
    lambda gaps: [sum(gaps[: n + 1]) for n in range(len(gaps))]
)
lives = st.lists(st.lists(st.tuples(st.integers(0, 10**6), st.booleans()), max_size=20), max_size=5)


@settings(max_examples=300, deadline=None)
@given(logs, lives, st.sampled_from([0, 11, 15, 3072]))
def test_over_any_lives_nothing_is_lost_and_nothing_told_is_repeated(
    log: list[int], lives: list[list[tuple[int, bool]]], metadata_size: int
) -> None:
    """Each life finishes some records in any order, commits now and then, and dies; the last one finishes the rest."""
    broker = Broker()
    finished: set[int] = set()
    told: set[int] = set()
    for steps in lives:
        life = Life(broker, log, metadata_size)
        left = offsets_of(life)
        assert not told & set(left)
        assert set(log) - set(left) <= finished
        for pick, commits in steps:
            if left:
                offset = left.pop(pick % len(left))
                life.finish(offset)
                finished.add(offset)
            if commits:
                life.commit()
                ranges = OffsetRanges.decode(broker.metadata or "", broker.offset)
                told = {one for one in finished if one < broker.offset or one in ranges}
    last = Life(broker, log, metadata_size)
    last.finish(*offsets_of(last))
    last.commit()
    assert (broker.offset, broker.metadata) == (log[-1] + 1, "")
