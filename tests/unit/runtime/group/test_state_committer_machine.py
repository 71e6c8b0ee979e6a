"""State committer under any order of finishing, commits, aborts and reassignments: the topic is always exact.

Each record adds one to a key, so the values in the topic must add up to the number of finished offsets it names.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.kernel.partition_row import StateKey
from drakkar_flow.model.outcome import Ack, AckStatus
from drakkar_flow.model.record import Record
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.acknowledgement.commit import Track
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.group.buffers import Buffers, Partition
from drakkar_flow.runtime.group.commit_queue import CommitQueue
from drakkar_flow.runtime.group.state_committer import StateCommitter
from drakkar_flow.runtime.state_topic.transactions import Outcome, Transaction
from unit.runtime.group.test_state_committer import REFUSED, FakeConsumer

AT = ("in", 0)


class Topic:
    """Transactions of a state topic: those that are committed are in `values` and `position`."""

    def __init__(self) -> None:
        self.values: dict[StateKey, bytes] = {}
        self.position: tuple[int, list[tuple[int, int]]] = (0, [])
        self.open: Transaction | None = None
        self.outcomes: list[bool] = []
        """Decisions for the transactions of a revoke, which waits for them."""

    def submit(self, transaction: Transaction) -> None:
        """Begin one; the one before is decided."""
        assert self.open is None
        self.open = transaction

    def outcome(self, timeout_s: float) -> Outcome | None:
        """Decide it, if the test has said how; a revoke that waits gets a decision in any case."""
        if self.open is None or not (self.outcomes or timeout_s):
            return None
        return self.decide(self.outcomes.pop(0) if self.outcomes else True)

    def decide(self, committed: bool) -> Outcome:
        """Commit or abort."""
        transaction, self.open = self.open, None
        assert transaction is not None
        if not committed:
            return REFUSED
        for _, position, values in transaction.changes:
            self.position = (position.offset, position.finished)
            merged = {**self.values, **values}
            self.values = {key: value for key, value in merged.items() if value is not None}
        return Outcome()


class Committing(RuleBasedStateMachine):
    """One partition and its state topic."""

    def __init__(self) -> None:
        super().__init__()
        self.topic = Topic()
        self.track = Track(records_changes=True)
        self.ledgers = self.track.keep_state()
        self.positions = CommitQueue(0.0, 1 << 60, 0.0)
        self.buffers = Buffers(InFlight(10**6, 10**9), 10**6, 10**9)
        self.consumer = FakeConsumer()
        self.committer = StateCommitter(
            self.positions,
            self.buffers,
            Bus(),
            self.track,
            self.topic,  # type: ignore[arg-type]  # a fake of what is used
            ("group", "flow"),
            3072,
            lambda _outcome: None,
        )
        self.late: list[Record] = []
        self.assign()

    def assign(self) -> None:
        """Restore the partition, and begin to read it."""
        offset, finished = self.topic.position
        self.buffers.assign([AT], {AT: (offset, OffsetRanges(finished))})
        self.ledgers.load(AT, self.topic.values, self.partition.epoch)
        self.committer.begin(self.partition, "", write=False)
        self.next_offset = offset
        self.flying: list[Record] = []

    @property
    def partition(self) -> Partition:
        """The present assignment."""
        found = self.buffers.get(AT)
        assert found is not None
        return found

    @rule(key=st.sampled_from("abc"))
    def read(self, key: str) -> None:
        """The next record changes a key."""
        partition = self.partition
        while self.next_offset in partition.done:
            self.next_offset += 1
        offset = partition.read_offset = self.next_offset
        self.next_offset += 1
        record = Record(*AT, offset, epoch=partition.epoch, previous=partition.last_offset)
        partition.last_offset = offset
        ledger = self.ledgers.at(AT, partition.epoch)
        assert ledger is not None
        name = ("count", key)
        ledger.put(name, b"%d" % (int(ledger.get(name) or 0) + 1), offset)
        self.flying.append(record)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Any record finishes."""
        self._settle(self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1))), AckStatus.DONE)

    @precondition(lambda self: self.late)
    @rule()
    def finish_late(self) -> None:
        """A record of an assignment that has ended returns."""
        self._settle(self.late.pop(), AckStatus.FENCED)

    @rule()
    def commit(self) -> None:
        """It is time to commit."""
        self.committer.commit_soon(self.consumer, 1.0)  # type: ignore[arg-type]  # a fake of what is used

    @precondition(lambda self: self.topic.open is not None)
    @rule(committed=st.booleans())
    def decide(self, committed: bool) -> None:
        """The running transaction gets its outcome."""
        self.topic.outcomes = [committed]
        self.committer.serve()

    @rule(outcomes=st.lists(st.booleans(), max_size=3))
    def revoke(self, outcomes: list[bool]) -> None:
        """The partition leaves and comes back; records in flight are fenced."""
        self.topic.outcomes = outcomes
        taken = self.buffers.take_away([AT])
        self.committer.before_fence(taken)
        self.late += self.flying
        self.committer.commit_now(self.consumer, taken)  # type: ignore[arg-type]  # a fake of what is used
        self.positions.forget([AT])
        self.topic.outcomes = []
        self.assign()

    @precondition(lambda self: self.topic.open is None)
    @rule()
    def lose(self) -> None:
        """The partition is lost and comes back: nothing is committed for it."""
        self.buffers.take_away([AT])
        self.late += self.flying
        self.positions.forget([AT])
        self.assign()

    @invariant()
    def values_are_those_of_the_finished_records(self) -> None:
        """Each finished record counts once, whatever was aborted, repeated or fenced."""
        offset, finished = self.topic.position
        counted = offset + sum(stop - start for start, stop in finished)
        assert sum(map(int, self.topic.values.values())) == counted

    def _settle(self, record: Record, status: AckStatus) -> None:
        for settled in self.track.settle([Ack(record, record.credit, status)]):
            self.positions.note(settled.watermarks)
            self.positions.out_of_order_ranges(settled.out_of_order_ranges)


TestCommitting = Committing.TestCase
