"""State committer: one instant per transaction, nothing of a partition that left, and nothing lost by an abort."""

from __future__ import annotations

import struct

import pytest
from confluent_kafka import KafkaError

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.kernel.partition_row import StateKey
from drakkar_flow.model.outcome import Ack, AckStatus
from drakkar_flow.model.record import Record, TopicPartition
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.source import CommitFailed, Committed
from drakkar_flow.runtime.acknowledgement.commit import StateChanges, Track
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.group.buffers import Buffers, Partition
from drakkar_flow.runtime.group.commit_queue import CommitQueue
from drakkar_flow.runtime.group.state_committer import StateCommitter
from drakkar_flow.runtime.state_topic.transactions import Outcome, Transaction

A, B = ("in", 0), ("in", 1)
ANNA, OTTO = ("count", "anna"), ("count", "otto")
REFUSED = Outcome("refused", cause=KafkaError(KafkaError.ILLEGAL_GENERATION))


class FakeTransactions:
    """Notes transactions; the test decides their outcomes, in advance or later."""

    def __init__(self) -> None:
        self.submitted: list[Transaction] = []
        self.outcomes: list[Outcome] = []

    def submit(self, transaction: Transaction) -> None:
        """Note it."""
        self.submitted.append(transaction)

    def outcome(self, _timeout_s: float) -> Outcome | None:
        """The next outcome, if the test has decided it."""
        return self.outcomes.pop(0) if self.outcomes else None


class FakeConsumer:
    """A member of the group, or none."""

    generation = 5

    def consumer_group_metadata(self) -> bytes:
        """In the client's format."""
        return b"CGMDv2:" + struct.pack("=i", self.generation) + b"group\0member\0\x01"

    def poll(self, _timeout_s: float) -> None:
        """Nothing to read."""


class Life:
    """A reader's parts, and records of two partitions that change keys."""

    def __init__(self) -> None:
        self.track = Track(records_changes=True)
        self.ledgers = self.track.keep_state()
        self.positions = CommitQueue(0.0, 1 << 60, 0.0)
        self.buffers = Buffers(InFlight(10**6, 10**9), 10**6, 10**9)
        self.transactions = FakeTransactions()
        self.consumer = FakeConsumer()
        self.failures: list[Outcome] = []
        self.events: list[object] = []
        bus = Bus()
        bus.listen(Committed, self.events.append)
        bus.listen(CommitFailed, self.events.append)
        self.committer = StateCommitter(
            self.positions,
            self.buffers,
            bus,
            self.track,
            self.transactions,  # type: ignore[arg-type]  # a fake of what is used
            ("group", "flow"),
            3072,
            self.failures.append,
        )
        for at in (A, B):
            self.begin(at, 10)

    def begin(self, at: TopicPartition, offset: int, *finished: tuple[int, int], write: bool = False) -> None:
        """A partition was restored."""
        self.buffers.assign([at], {at: (offset, OffsetRanges(finished))})
        self.ledgers.load(at, {}, self.partition(at).epoch)
        self.committer.begin(self.partition(at), "topic-1", write=write)

    def partition(self, at: TopicPartition) -> Partition:
        """The present assignment."""
        found = self.buffers.get(at)
        assert found is not None
        return found

    def record(self, at: TopicPartition, offset: int, previous: int = -1) -> Record:
        """A record of the present assignment."""
        return Record(*at, offset, epoch=self.partition(at).epoch, previous=previous)

    def finish(self, record: Record, status: AckStatus = AckStatus.DONE, **values: bytes | None) -> None:
        """Change keys of `count` by a record, and finish it."""
        at = record.topic_partition
        with self.ledgers.lock:
            ledger = self.ledgers.at(at, record.epoch)
            for key, value in values.items() if ledger is not None else ():
                ledger.put(("count", key), value, record.offset)  # type: ignore[union-attr]  # checked above
        for settled in self.track.settle([Ack(record, record.credit, status)]):
            self.positions.note(settled.watermarks)
            self.positions.out_of_order_ranges(settled.out_of_order_ranges)

    def commit(self) -> None:
        """Commit what is due."""
        self.committer.commit_soon(self.consumer, 1.0)  # type: ignore[arg-type]  # a fake of what is used

    def decide(self, outcome: Outcome) -> None:
        """Decide the running transaction."""
        self.transactions.outcomes.append(outcome)
        self.committer.serve()

    def revoke(self, at: TopicPartition) -> None:
        """As the reader does."""
        taken = self.buffers.take_away([at])
        self.committer.before_fence(taken)
        self.committer.commit_now(self.consumer, taken)  # type: ignore[arg-type]  # a fake of what is used
        self.positions.forget([at])

    def stored(
        self, number: int = -1
    ) -> dict[TopicPartition, tuple[int, list[tuple[int, int]], dict[StateKey, bytes | None]]]:
        """Offset, finished ranges and values of one transaction, by partition."""
        transaction = self.transactions.submitted[number]
        offsets = {(each.topic, each.partition): each.offset for each in transaction.offsets}
        assert offsets == {at: position.offset for at, position, _ in transaction.changes}
        return {at: (position.offset, position.finished, dict(values)) for at, position, values in transaction.changes}


@pytest.fixture
def life() -> Life:
    """Two partitions, read from offset 10."""
    return Life()


def test_a_transaction_has_position_finished_ranges_and_values_of_one_instant(life: Life) -> None:
    """The map is complete, and the values are those of the finished records alone."""
    life.finish(life.record(A, 10), anna=b"1")
    life.finish(life.record(A, 12, 11), otto=b"1")
    life.commit()
    assert life.stored() == {A: (11, [(12, 13)], {ANNA: b"1", OTTO: b"1"})}
    ((_, position, _),) = life.transactions.submitted[0].changes
    assert (position.group, position.flow, position.topic_id) == ("group", "flow", "topic-1")
    life.decide(Outcome())
    assert life.events == [Committed(((A, 11),))]
    life.commit()
    assert len(life.transactions.submitted) == 1


def test_ranges_of_an_earlier_assignment_are_part_of_the_position(life: Life) -> None:
    """Also when this one has finished nothing yet."""
    life.begin(A, 20, (22, 24), (30, 31), write=True)
    life.commit()
    assert life.stored() == {A: (20, [(22, 24), (30, 31)], {})}
    life.decide(Outcome())
    life.finish(life.record(A, 20), anna=b"1")
    life.finish(life.record(A, 21, 20), anna=b"2")
    life.commit()
    assert life.stored() == {A: (24, [(30, 31)], {ANNA: b"2"})}


def test_an_aborted_transaction_is_put_back_and_joined_with_later_changes(life: Life) -> None:
    """The next one has the newest value of every key that is not stored."""
    life.finish(life.record(A, 10), anna=b"1", otto=b"1")
    life.commit()
    life.finish(life.record(A, 11, 10), anna=b"2")
    life.commit()
    assert len(life.transactions.submitted) == 1
    life.decide(REFUSED)
    life.commit()
    assert life.stored() == {A: (12, [], {ANNA: b"2", OTTO: b"1"})}
    assert life.events == [CommitFailed("refused", (A,))]
    assert not life.failures


def test_a_consumer_that_is_no_member_commits_nothing(life: Life) -> None:
    """The brokers would take its offsets unchecked."""
    life.finish(life.record(A, 10), anna=b"1")
    life.consumer.generation = -1
    life.commit()
    life.commit()
    assert not life.transactions.submitted
    life.consumer.generation = 6
    life.commit()
    assert life.stored() == {A: (11, [], {ANNA: b"1"})}


def test_a_revoked_partition_is_committed_once_more_and_never_again(life: Life) -> None:
    """Its last transaction has all that it finished; later ones have only the partitions that stay."""
    life.finish(life.record(A, 10), anna=b"1")
    record = life.record(A, 11, 10)
    life.transactions.outcomes.append(Outcome())
    life.revoke(A)
    assert life.stored() == {A: (11, [], {ANNA: b"1"})}
    life.finish(record, anna=b"2")  # it comes late
    life.finish(life.record(B, 10), otto=b"1")
    life.commit()
    assert life.stored() == {B: (11, [], {OTTO: b"1"})}


@pytest.mark.parametrize("outcome", [Outcome(), REFUSED])
def test_a_revoke_waits_for_the_running_transaction_and_adds_what_it_could_not_store(
    life: Life, outcome: Outcome
) -> None:
    """Else a position could be stored without the values that belong to it."""
    life.finish(life.record(A, 10), anna=b"1", otto=b"1")
    life.finish(life.record(B, 10), otto=b"7")
    life.commit()
    life.finish(life.record(A, 11, 10), anna=b"2")
    life.transactions.outcomes += [outcome, Outcome()]
    life.revoke(A)
    missing = {OTTO: b"1"} if outcome.error else {}
    assert life.stored() == {A: (12, [], {ANNA: b"2"} | missing)}
    life.finish(life.record(B, 11, 10), anna=b"9")
    life.commit()
    missing = {OTTO: b"7"} if outcome.error else {}
    assert life.stored() == {B: (12, [], {ANNA: b"9"} | missing)}


def test_a_last_commit_that_is_refused_is_tried_once_more(life: Life) -> None:
    """Then the partition leaves, and the next owner repeats what is missing."""
    life.finish(life.record(A, 10), anna=b"1")
    life.transactions.outcomes += [REFUSED, REFUSED, Outcome()]
    life.revoke(A)
    assert [life.stored(number) for number in range(len(life.transactions.submitted))] == [
        {A: (11, [], {ANNA: b"1"})}
    ] * 2


def test_a_fenced_partition_is_in_no_transaction(life: Life) -> None:
    """Nothing at or beyond a record that was not delivered may be committed, nor its state."""
    life.finish(life.record(A, 10), anna=b"1")
    life.finish(life.record(A, 11, 10), AckStatus.FENCED, anna=b"2")
    life.finish(life.record(B, 10), otto=b"1")
    life.commit()
    assert life.stored() == {B: (11, [], {OTTO: b"1"})}


def test_an_outcome_of_an_earlier_assignment_changes_nothing_of_the_present_one(life: Life) -> None:
    """The partition left and came back meanwhile; its state was restored."""
    life.finish(life.record(A, 10), anna=b"1")
    life.commit()
    life.buffers.take_away([A])
    life.begin(A, 10)
    life.decide(REFUSED)
    life.finish(life.record(A, 10), otto=b"1")
    life.commit()
    assert life.stored() == {A: (11, [], {OTTO: b"1"})}


def test_an_end_commits_everything_that_is_finished(life: Life) -> None:
    """Also what an abort has put back."""
    life.finish(life.record(A, 10), anna=b"1")
    life.commit()
    life.finish(life.record(B, 10), otto=b"1")
    life.transactions.outcomes += [REFUSED, Outcome()]
    life.committer.commit_finally(life.consumer, 10.0)  # type: ignore[arg-type]  # a fake of what is used
    assert life.stored() == {A: (11, [], {ANNA: b"1"}), B: (11, [], {OTTO: b"1"})}
    life.revoke(A)
    assert len(life.transactions.submitted) == 2


def test_a_failure_that_no_attempt_can_change_ends_the_attempts(life: Life) -> None:
    """It is reported once; the end does not try again."""
    life.finish(life.record(A, 10), anna=b"1")
    life.commit()
    life.decide(Outcome("too large", stops=True))
    life.commit()
    life.committer.commit_finally(life.consumer, 10.0)  # type: ignore[arg-type]  # a fake of what is used
    assert len(life.transactions.submitted) == 1
    assert life.failures == [Outcome("too large", stops=True)]


def test_a_position_that_passed_earlier_ranges_never_goes_back(life: Life) -> None:
    """Also when the partition leaves before the transaction that passed them has its outcome."""
    life.begin(A, 10, (11, 20))
    life.finish(life.record(A, 10), anna=b"1")
    life.commit()
    assert life.stored() == {A: (20, [], {ANNA: b"1"})}
    life.transactions.outcomes += [REFUSED, Outcome()]
    life.revoke(A)
    assert life.stored() == {A: (20, [], {ANNA: b"1"})}


def test_a_record_that_finishes_while_changes_are_taken_waits_for_the_next_transaction(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's thread goes on meanwhile: a position beyond the values would lose the record's change in a crash."""
    first, second = life.record(A, 10), life.record(A, 11, 10)
    life.finish(first, anna=b"1")
    take = life.track.take_changes

    def take_and_finish(at: TopicPartition, epoch: int) -> StateChanges | None:
        taken = take(at, epoch)
        monkeypatch.undo()
        life.finish(second, anna=b"2")
        return taken

    monkeypatch.setattr(life.track, "take_changes", take_and_finish)
    life.commit()
    assert life.stored() == {A: (11, [], {ANNA: b"1"})}
    life.decide(Outcome())
    life.commit()
    assert life.stored() == {A: (12, [], {ANNA: b"2"})}
