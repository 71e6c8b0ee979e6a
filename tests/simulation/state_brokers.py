"""Brokers' side of state in group mode: the state topic, transactions and the group's coordinator.

What it takes from Kafka:

- The messages of a transaction are in the log when they are sent. A marker in each partition, and one for the group's
  offsets, ends it later and at different times. Those who read committed messages get no further than the first message
  without its marker, and no offset that a transaction may still change.
- A transaction that lasts too long is aborted, and so is one whose producer's successor begins.
- Offsets in a transaction are refused by the member's generation when they are sent, never at the commit. Nobody checks
  which partitions the member has. Offsets without a member are taken unchecked.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from confluent_kafka import KafkaError, KafkaException

from drakkar_flow.kernel.state_messages import StoredPartition, read_messages
from simulation.broker import TOPIC, Brokers
from simulation.scheduler import Scheduler

__all__ = ["STATE_TOPIC", "Entry", "StateBrokers", "Transaction"]

STATE_TOPIC = "state"
GROUP = "group"
"""Place of the group's offsets among the partitions that get a marker."""
_MARKERS_S = (0.0, 0.0, 0.001, 0.05, 1.0)
_TIMEOUT_S = 10.0
_CHECKS_S = 10.0  # between two looks for transactions that last too long

Message = tuple[bytes, bytes | None]


@dataclass(eq=False)
class Transaction:
    """A transaction of a producer; `status` is open, commit or abort."""

    producer: str
    epoch: int
    abort_at: float
    status: str = "open"
    messages: dict[int, list[Message]] = field(default_factory=dict)
    offsets: dict[int, tuple[int, str]] = field(default_factory=dict)
    markers: dict[int | str, float] = field(default_factory=dict)
    """When the markers that are missing will be written."""

    def may_change(self, place: int | str) -> bool:
        """Return True if a partition, or the group's offsets, have no marker of it yet."""
        return place in self.markers or self.status == "open"


@dataclass(eq=False)
class Entry:
    """A message of the log, or a marker (no transaction)."""

    transaction: Transaction | None
    key: bytes = b""
    value: bytes | None = None


class StateBrokers:
    """Outlives the processes. `decided` gets each transaction when it is committed, before it can be seen."""

    def __init__(self, brokers: Brokers, scheduler: Scheduler) -> None:
        self.decided: Callable[[Transaction], None] = lambda _transaction: None
        self.logs: dict[int, list[Entry]] = {number: [] for number in brokers.logs}
        self.generation = 0
        self.member = ""
        """Id of the member; empty if the group has none, or has expelled it."""
        self.owned: set[int] = set()
        """Partitions of the member, as the coordinator knows it."""
        self._brokers = brokers
        self._scheduler = scheduler
        self._unsettled: list[Transaction] = []
        self._epochs: dict[str, int] = {}

    # --- membership -----------------------------------------------------------------------------

    def join(self, member: str) -> None:
        """Let another process join; its predecessor has no partitions any more."""
        self.generation += 1
        self.member = member
        self.owned.clear()

    def expel(self) -> None:
        """Expel the member, which does not know it yet: its session has timed out."""
        self.generation += 1
        self.member = ""
        self.owned.clear()

    # --- producers ------------------------------------------------------------------------------

    def begin(self, producer: str) -> int | None:
        """Begin with a producer: returns its epoch, or None while the transaction of its predecessor is being ended."""
        self._epochs[producer] = self._epochs.get(producer, 0) + 1
        for each in self._of(producer):
            if each.status == "open":
                self._end(each, "abort")
        return self._epochs[producer] if self.is_settled(producer) else None

    def is_settled(self, producer: str) -> bool:
        """Return True if every transaction of a producer that has ended has its markers."""
        self.advance()
        return all(each.status == "open" for each in self._of(producer))

    def send(self, producer: str, epoch: int, number: int, messages: list[Message]) -> Transaction:
        """Append messages to a partition."""
        transaction = self._open(producer, epoch)
        transaction.messages.setdefault(number, []).extend(messages)
        self.logs[number] += [Entry(transaction, key, value) for key, value in messages]
        return transaction

    def send_offsets(
        self, producer: str, epoch: int, offsets: dict[int, tuple[int, str]], generation: int, member: str
    ) -> Transaction:
        """Add offsets to the transaction, if the member may commit."""
        transaction = self._open(producer, epoch)
        if generation >= 0 or member:
            if member != self.member:
                raise KafkaException(KafkaError(KafkaError.UNKNOWN_MEMBER_ID))
            if generation != self.generation:
                raise KafkaException(KafkaError(KafkaError.ILLEGAL_GENERATION))
        transaction.offsets.update(offsets)
        return transaction

    def end(self, transaction: Transaction, status: str) -> None:
        """Commit or abort a transaction; a request that is repeated changes nothing."""
        self.advance()
        if transaction.status == "open":
            self._check(transaction.producer, transaction.epoch)
            self._end(transaction, status)
        elif transaction.status != status:
            raise KafkaException(KafkaError(KafkaError._FENCED, "it was aborted", fatal=True))

    # --- what others see ------------------------------------------------------------------------

    @property
    def next_due(self) -> float:
        """Return the time of the next marker, or of the end of a transaction that lasts too long."""
        self.advance()
        ends = [each.abort_at for each in self._unsettled if each.status == "open"]
        return min([inf, *ends, *[at for each in self._unsettled for at in each.markers.values()]])

    def advance(self) -> None:
        """Write the markers that are due."""
        now = self._scheduler.now
        for each in list(self._unsettled):
            if each.status == "open" and each.abort_at <= now:
                self._epochs[each.producer] += 1
                self._end(each, "abort")
            for place in [place for place, at in each.markers.items() if at <= now]:
                self._mark(each, place)
            if each.status != "open" and not each.markers:
                self._unsettled.remove(each)

    def is_stable(self, number: int) -> bool:
        """Return True if no transaction may change the offset of a partition."""
        self.advance()
        return not any(number in each.offsets and each.may_change(GROUP) for each in self._unsettled)

    def stable_end(self, number: int) -> int:
        """Return the offset of the first message that is not decided."""
        self.advance()
        log = self.logs[number]
        if not any(number in each.messages and each.may_change(number) for each in self._unsettled):
            return len(log)
        return next(
            place
            for place, entry in enumerate(log)
            if entry.transaction is not None and entry.transaction.may_change(number)
        )

    def contents(self, number: int) -> StoredPartition:
        """Return position and state of a partition, by all transactions that are committed or will be."""
        values: dict[bytes, bytes] = {}
        for entry in self.logs[number]:
            if entry.transaction is None or entry.transaction.status != "commit":
                continue
            if entry.value is None:
                values.pop(entry.key, None)
            else:
                values[entry.key] = entry.value
        return read_messages(values, [TOPIC])[TOPIC]

    # --- inside ---------------------------------------------------------------------------------

    def _of(self, producer: str) -> list[Transaction]:
        return [each for each in self._unsettled if each.producer == producer]

    def _check(self, producer: str, epoch: int) -> None:
        if self._epochs.get(producer) != epoch:
            raise KafkaException(KafkaError(KafkaError._FENCED, "there is a newer epoch", fatal=True))

    def _open(self, producer: str, epoch: int) -> Transaction:
        self.advance()
        self._check(producer, epoch)
        for each in self._of(producer):
            if each.status == "open":
                return each
        chance: random.Random = self._scheduler.chance
        abort_at = self._scheduler.now + _TIMEOUT_S + chance.random() * _CHECKS_S
        self._unsettled.append(Transaction(producer, epoch, abort_at))
        return self._unsettled[-1]

    def _end(self, transaction: Transaction, status: str) -> None:
        chance, now = self._scheduler.chance, self._scheduler.now
        places: list[int | str] = [*transaction.messages, *([GROUP] if transaction.offsets else [])]
        transaction.markers = {place: now + chance.choice(_MARKERS_S) for place in places}
        if status == "commit":
            transaction.status = status
            self.decided(transaction)
        transaction.status = status
        self._scheduler.note("{} of {}: {}", status, transaction.producer, transaction.offsets)

    def _mark(self, transaction: Transaction, place: int | str) -> None:
        del transaction.markers[place]
        if isinstance(place, int):
            self.logs[place].append(Entry(None))
        elif transaction.status == "commit":
            self._brokers.committed.update({(TOPIC, number): each for number, each in transaction.offsets.items()})
