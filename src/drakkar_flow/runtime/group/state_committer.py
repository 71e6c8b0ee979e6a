"""State committer: commits offsets, positions and changed values of a flow with state in one transaction.

What a transaction holds is taken at one instant, together with the group's metadata of that instant: brokers refuse the
metadata of a member that has lost its partitions since, but do not check which partitions a member may commit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaError
from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow.kernel.group_metadata import is_member
from drakkar_flow.kernel.partition_row import StateKey
from drakkar_flow.kernel.state_messages import Position
from drakkar_flow.model.record import TopicPartition, Watermark
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.source import CommitFailed, Committed
from drakkar_flow.runtime.acknowledgement.commit import Track
from drakkar_flow.runtime.group.buffers import Buffers, Partition
from drakkar_flow.runtime.group.commit_queue import CommitQueue
from drakkar_flow.runtime.group.offset_committer import FINAL_COMMIT_S
from drakkar_flow.runtime.state_topic.transactions import Change, Outcome, Transaction, Transactions

__all__ = ["StateCommitter", "StateFailure"]

_REVOKE_S = 5.0  # the longest time that the last commit may hold up a rebalance
_REVOKE_ATTEMPTS = 2
_WAIT_S = 0.1  # for an outcome, between two polls of the consumer

StateFailure = Callable[[Outcome], None]
"""Gets the outcome of a transaction that no new attempt can commit."""


@dataclass(eq=False)
class _Taken:
    """Position and changes of one assignment that were taken and not stored yet."""

    at: TopicPartition
    epoch: int
    offset: int
    metadata: str
    finished: list[tuple[int, int]]
    values: dict[StateKey, bytes | None] = field(repr=False)


class StateCommitter:
    """Commits by transactions of which one runs at a time. Its methods are called by the reader's thread.

    Args:
        positions: watermarks that are due.
        buffers: the present assignments.
        bus: gets Committed and CommitFailed.
        track: has positions and changes of one instant.
        transactions: commits them.
        owner: group and flow, which positions name.
        metadata_size: the most characters of a commit's metadata.
        on_failure: gets outcomes that no new attempt can change.
    """

    def __init__(
        self,
        positions: CommitQueue,
        buffers: Buffers,
        bus: Bus,
        track: Track,
        transactions: Transactions,
        owner: tuple[str, str],
        metadata_size: int,
        on_failure: StateFailure,
    ) -> None:
        self._positions = positions
        self._buffers = buffers
        self._bus = bus
        self._track = track
        self._transactions = transactions
        self._group, self._flow = owner
        self._metadata_size = metadata_size
        self._on_failure = on_failure
        self._topic_ids: dict[str, str] = {}
        self._running: list[_Taken] = []
        self._leaving: dict[TopicPartition, _Taken] = {}  # of partitions that are being revoked
        self._stored: dict[TopicPartition, tuple[int, int, list[tuple[int, int]]]] = {}  # epoch, offset, finished
        self._finally = False
        self._given_up = False

    def begin(self, partition: Partition, topic_id: str, *, write: bool) -> None:
        """Begin an assignment; with `write` its position is committed soon, before a record has finished."""
        at = partition.topic_partition
        self._topic_ids[at[0]] = topic_id
        self._stored.pop(at, None)
        if write and partition.base >= 0:
            self._positions.note([Watermark(*partition.assignment, partition.base)])

    def serve(self) -> None:
        """Take the outcome of the running transaction, if there is one."""
        if self._running:
            self._take_outcome(0.0)

    def commit_soon(self, consumer: Consumer, now: float) -> None:
        """Begin a transaction with all due partitions, unless one is running."""
        if self._running:
            return
        due = self._positions.take(self._buffers.assignments(), now)
        present = {each.topic_partition: each for each in self._buffers.partitions()}
        if taken := self._take(present[at] for at in sorted(due) if at in present):
            self._begin(consumer, taken)
        else:
            self._positions.accepted({})  # no answer is awaited

    def before_fence(self, partitions: Iterable[Partition]) -> None:
        """Take the last changes of partitions that are being revoked: nothing may be taken after the fence."""
        self._leaving = {each.at: each for each in self._take(partitions)}

    def commit_now(self, consumer: Consumer, partitions: list[Partition]) -> None:
        """Commit the last changes of partitions that leave, within 5 s; the next owner repeats the rest."""
        deadline = time.monotonic() + _REVOKE_S
        for attempt in range(0 if self._finally else 1 + _REVOKE_ATTEMPTS):
            while self._running and time.monotonic() < deadline:
                self._take_outcome(_WAIT_S)
            if self._running or attempt == _REVOKE_ATTEMPTS:
                break
            if not self._begin(consumer, list(self._leaving.values())):
                break
        self._leaving = {}
        for each in partitions:
            self._stored.pop(each.topic_partition, None)

    def commit_finally(self, consumer: Consumer, limit_s: float = FINAL_COMMIT_S) -> None:
        """Commit everything that is finished; rebalances are served meanwhile."""
        limit_s = min(FINAL_COMMIT_S, limit_s)
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline and (
            self._running or self._begin(consumer, self._take(self._buffers.partitions()))
        ):
            consumer.poll(0)
            if self._running and self._take_outcome(_WAIT_S) is False:
                consumer.poll(_WAIT_S)  # a rebalance may be why it was refused
        if self._running:
            left = tuple(each.at for each in self._running)
            self._bus.emit(CommitFailed(f"the last commit got no answer within {limit_s:.1f} s", left))
        self._finally = True

    def forget(self, topic_partitions: Iterable[TopicPartition]) -> None:
        """Do nothing: a transaction has only present assignments."""

    def on_commit(self, error: KafkaError | None, answers: list[KafkaPartition]) -> None:
        """Do nothing: the consumer commits nothing itself."""

    # --- one transaction ------------------------------------------------------------------------

    def _take(self, partitions: Iterable[Partition]) -> list[_Taken]:
        """Take the changes since the last transaction."""
        found = []
        for partition in partitions:
            at, epoch = partition.assignment
            # Before the changes: records that finish between the two would be passed without their state.
            noted = self._positions.of({at: epoch}).get(at, -1)
            changes = self._track.take_changes(at, epoch)
            if changes is None:
                continue  # fenced: its records are read again
            reached = max(changes.offset, noted)
            offset, finished = partition.joined(reached, changes.finished)
            if offset > reached >= 0:  # over records that an earlier assignment finished, which are not known any more
                self._positions.note([Watermark(at, epoch, offset)])
            taken = _Taken(
                at, epoch, offset, finished.encode(offset, self._metadata_size), list(finished), changes.values
            )
            if offset < 0 or not (taken.values or self._is_new(taken)):
                self._put_back(taken)
            else:
                found.append(taken)
        return found

    def _is_new(self, taken: _Taken) -> bool:
        return self._stored.get(taken.at) != (taken.epoch, taken.offset, taken.finished)

    def _begin(self, consumer: Consumer, taken: list[_Taken]) -> bool:
        """Begin a transaction; returns False if there is nothing to commit, or this consumer is no member now."""
        if not taken:
            return False
        member = _metadata(consumer)
        if self._given_up or not is_member(member):
            self._failed(taken)
            return False
        changes = [Change(each.at, self._position(each), each.values) for each in taken]
        offsets = [KafkaPartition(*each.at, each.offset, each.metadata) for each in taken]
        self._running = taken
        self._transactions.submit(Transaction(changes, offsets, member))
        return True

    def _position(self, taken: _Taken) -> Position:
        return Position(
            group=self._group,
            flow=self._flow,
            topic_id=self._topic_ids.get(taken.at[0], ""),
            offset=taken.offset,
            finished=taken.finished,
        )

    def _take_outcome(self, timeout_s: float) -> bool | None:
        """Wait for the outcome of the running transaction; returns True if it was committed, None if it goes on."""
        outcome = self._transactions.outcome(timeout_s)
        if outcome is None:
            return None
        taken, self._running = self._running, []
        if not outcome.error:
            self._committed(taken)
            return True
        self._failed(taken)
        self._bus.emit(CommitFailed(outcome.error, tuple(each.at for each in taken)))
        code = None if outcome.cause is None else outcome.cause.code()
        if code == KafkaError.OFFSET_METADATA_TOO_LARGE:
            self._metadata_size = 0  # these brokers allow less than others: offsets alone, then
        if outcome.stops or code == KafkaError.FENCED_INSTANCE_ID:
            self._given_up = True
            self._on_failure(outcome)
        return False

    def _committed(self, taken: list[_Taken]) -> None:
        for each in taken:
            if self._leaving.get(each.at) is each:
                del self._leaving[each.at]
            partition = self._buffers.get(each.at)
            if partition is not None and partition.epoch == each.epoch:
                self._stored[each.at] = (each.epoch, each.offset, each.finished)
                if self._positions.of({each.at: each.epoch}).get(each.at, -1) < each.offset:
                    self._positions.note([Watermark(each.at, each.epoch, each.offset)])
        offsets = {each.at: each.offset for each in taken}
        self._positions.accepted(offsets)
        self._bus.emit(Committed(tuple(offsets.items())))

    def _failed(self, taken: list[_Taken]) -> None:
        """Put changes back; those of a partition that leaves join its last ones."""
        for each in taken:
            leaving = self._leaving.get(each.at)
            if leaving is None or leaving.epoch != each.epoch:
                self._put_back(each)
            elif leaving is not each:
                leaving.values = {**each.values, **leaving.values}
        self._positions.put_back([each.at for each in taken])

    def _put_back(self, taken: _Taken) -> None:
        if taken.values:
            self._track.put_back(taken.at, taken.epoch, taken.values)


def _metadata(consumer: Consumer) -> bytes:
    try:
        found: bytes = consumer.consumer_group_metadata()
    except RuntimeError:  # it has none
        return b""
    return found
