"""Clients of the simulated brokers for state in group mode, with the interfaces of confluent_kafka's."""

from __future__ import annotations

import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined] # exported there

from simulation.broker import TOPIC, Brokers, SimulatedConsumer
from simulation.scheduler import Scheduler
from simulation.state_brokers import STATE_TOPIC, StateBrokers, Transaction

__all__ = ["GroupMember", "SimulatedAdmin", "SimulatedProducer", "SimulatedReader"]

_ANSWERS_S = (0.0, 0.0, 0.001, 0.01, 0.2)
_HUNG_S = 30.0
_TIMED_OUT = KafkaError._TIMED_OUT
_GENERATION = struct.Struct("=i")
_MAGIC = b"CGMDv2:"


class _Client:
    """A client whose requests take time, and fail with the probability `trouble()`."""

    def __init__(self, state: StateBrokers, scheduler: Scheduler, trouble: Callable[[], float]) -> None:
        self._state = state
        self._scheduler = scheduler
        self._trouble = trouble

    def _request(self, effect: Callable[[], Any]) -> Any:
        """Let the brokers answer: before or after `effect` the request or the answer may be lost."""
        chance, scheduler = self._scheduler.chance, self._scheduler
        fate = chance.random() if chance.random() < self._trouble() / 3 else 1.0
        scheduler.wait(lambda: False, chance.choice(_ANSWERS_S))
        if fate < 0.4:
            raise KafkaException(KafkaError(_TIMED_OUT, "no answer", retriable=True))
        if fate < 0.5:
            raise KafkaException(KafkaError(KafkaError.COORDINATOR_NOT_AVAILABLE, "it moves", txn_requires_abort=True))
        found = effect()
        scheduler.wait(lambda: False, chance.choice(_ANSWERS_S))
        if fate < 0.9:
            raise KafkaException(KafkaError(_TIMED_OUT, "the answer is lost", retriable=True))
        if fate < 1.0:
            scheduler.wait(lambda: False, _HUNG_S)
        return found


class SimulatedProducer(_Client):
    """Transactional producer: messages may wait in it until the transaction ends."""

    def __init__(
        self, state: StateBrokers, scheduler: Scheduler, trouble: Callable[[], float], transactional_id: str
    ) -> None:
        super().__init__(state, scheduler, trouble)
        self._id = transactional_id
        self._epoch: int | None = None
        self._phase = "new"
        self._transaction: Transaction | None = None
        self._waiting: list[tuple[int, bytes, bytes | None]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def init_transactions(self, timeout: float) -> None:
        """End the transaction of a predecessor, and fence it."""
        self._epoch = self._request(lambda: self._state.begin(self._id))
        if self._epoch is None:
            self._scheduler.wait(lambda: self._state.is_settled(self._id), timeout)
            raise KafkaException(KafkaError(_TIMED_OUT, "a transaction is being ended", retriable=True))
        self._phase = "ready"

    def begin_transaction(self) -> None:
        """Begin the next one."""
        self._expect("ready")
        self._phase = "open"
        self._transaction = None
        self._waiting.clear()

    def produce_batch(self, topic: str, messages: list[dict[str, Any]], partition: int, on_delivery: Any) -> None:
        """Queue messages; there may be no room for the last ones."""
        chance, room = self._scheduler.chance, len(messages)
        if chance.random() < self._trouble() / 4:
            room = chance.randrange(len(messages))
        for message in messages[room:]:
            message["_error"] = KafkaError(KafkaError._QUEUE_FULL)
        self._waiting += [(partition, message["key"], message["value"]) for message in messages[:room]]
        if chance.random() < 0.5:
            self.flush(0.0)

    def flush(self, timeout: float) -> None:
        """Send what waits."""
        while self._waiting and self._scheduler.wait(lambda: self._state.is_settled(self._id), 1.0):
            number, key, value = self._waiting.pop(0)
            self._transaction = self._state.send(self._id, self._epoch or 0, number, [(key, value)])
            self._scheduler.interrupt()

    def send_offsets_to_transaction(self, offsets: list[KafkaPartition], member: bytes, timeout: float) -> None:
        """Add offsets."""
        marks = {each.partition: (each.offset, each.metadata or "") for each in offsets}
        (generation,) = _GENERATION.unpack_from(member, len(_MAGIC)) if member else (-1,)
        name = member[len(_MAGIC) + _GENERATION.size :].split(b"\0")[1].decode() if member else ""

        def send() -> None:
            if not self._scheduler.wait(lambda: self._state.is_settled(self._id), timeout):
                raise KafkaException(KafkaError(_TIMED_OUT, "the last one is being ended", retriable=True))
            self._transaction = self._state.send_offsets(self._id, self._epoch or 0, marks, generation, name)

        self._request(send)

    def commit_transaction(self, timeout: float) -> None:
        """Send what waits, and commit."""
        self._expect("open")
        self.flush(timeout)
        if self._waiting:
            raise KafkaException(KafkaError(_TIMED_OUT, "messages wait", retriable=True))
        self._end("commit")

    def abort_transaction(self, timeout: float) -> None:
        """Drop what waits, and abort."""
        self._expect("open")
        self._waiting.clear()
        self._end("abort")

    def _end(self, status: str) -> None:
        if (transaction := self._transaction) is not None:
            self._request(lambda: self._state.end(transaction, status))
        self._phase = "ready"

    def _expect(self, phase: str) -> None:
        if self._phase != phase:
            raise KafkaException(KafkaError(KafkaError._STATE, f"it is {self._phase}"))

    def list_topics(self, timeout: float) -> Any:
        """Return the topics."""
        return SimpleNamespace(topics={STATE_TOPIC: None})


class _StateMessage:
    """A message of the state topic, or the end of a partition."""

    def __init__(self, number: int, offset: int, key: bytes = b"", value: bytes | None = None) -> None:
        self._found = number, offset, key, value

    def partition(self) -> int:
        """Partition."""
        return self._found[0]

    def offset(self) -> int:
        """Offset."""
        return self._found[1]

    def key(self) -> bytes:
        """Key."""
        return self._found[2]

    def value(self) -> bytes | None:
        """Value; None deletes the key."""
        return self._found[3]

    def error(self) -> KafkaError | None:
        """Error, for the end of a partition."""
        return None if self._found[2] else KafkaError(KafkaError._PARTITION_EOF)


class SimulatedReader(_Client):
    """Consumer that reads the state topic, and the group's offsets."""

    def __init__(
        self,
        brokers: Brokers,
        state: StateBrokers,
        scheduler: Scheduler,
        trouble: Callable[[], float],
        properties: dict[str, Any],
    ) -> None:
        super().__init__(state, scheduler, trouble)
        self._brokers = brokers
        self._is_committed = properties["isolation.level"] == "read_committed"
        self._at: dict[int, int] = {}
        self._told: dict[int, int] = {}

    def committed(self, partitions: list[KafkaPartition], timeout: float) -> list[KafkaPartition]:
        """Return the group's offsets, unless a transaction may change them."""
        numbers = [each.partition for each in partitions]

        def is_stable() -> bool:
            return all(map(self._state.is_stable, numbers))

        def read() -> list[KafkaPartition]:
            if self._is_committed and not self._scheduler.wait(is_stable, timeout):
                raise KafkaException(KafkaError(KafkaError.UNSTABLE_OFFSET_COMMIT))
            found = [self._brokers.committed.get((TOPIC, number), (-1001, "")) for number in numbers]
            return [KafkaPartition(TOPIC, number, *each) for number, each in zip(numbers, found, strict=True)]

        found: list[KafkaPartition] = self._request(read)
        return found

    def list_topics(self, topic: str, timeout: float) -> None:
        """Learn the leaders."""

    def assign(self, partitions: list[KafkaPartition]) -> None:
        """Read partitions from their beginning."""
        self._at = {each.partition: 0 for each in partitions}
        self._told.clear()

    def unassign(self) -> None:
        """Read nothing any more."""
        self._at.clear()

    def consume(self, count: int, timeout: float) -> list[_StateMessage]:
        """Return some messages, and the end of a partition as far as it is decided."""
        chance, found = self._scheduler.chance, list[_StateMessage]()
        self._scheduler.wait(lambda: False, chance.choice((0.0, 0.001, timeout)))
        for number in self._at:
            log = self._state.logs[number]
            end = self._state.stable_end(number) if self._is_committed else len(log)
            stop = min(end, self._at[number] + chance.randrange(1, 40))
            for offset in range(self._at[number], stop):
                entry = log[offset]
                is_read = entry.transaction is not None and not (
                    self._is_committed and entry.transaction.status != "commit"
                )
                if is_read:
                    found.append(_StateMessage(number, offset, entry.key, entry.value))
            self._at[number] = stop
            if stop == end and self._told.get(number) != end:
                self._told[number] = end
                found.append(_StateMessage(number, end))
        return found

    def close(self) -> None:
        """Do nothing."""


class SimulatedAdmin(_Client):
    """Answers what the restore asks for."""

    def __init__(
        self, brokers: Brokers, state: StateBrokers, scheduler: Scheduler, trouble: Callable[[], float]
    ) -> None:
        super().__init__(state, scheduler, trouble)
        self._brokers = brokers

    def list_topics(self, topic: str, timeout: float) -> Any:
        """Return the state topic."""
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None, partitions=dict.fromkeys(self._state.logs))})

    def describe_topics(self, topics: Any, request_timeout: float) -> dict[str, Any]:
        """Return the id of the source topic."""
        return {TOPIC: SimpleNamespace(result=lambda _timeout: SimpleNamespace(topic_id="id"))}

    def list_offsets(
        self, asked: dict[KafkaPartition, OffsetSpec], request_timeout: float
    ) -> dict[KafkaPartition, Any]:
        """Return the first offset, or the end with undecided messages."""
        found = self._request(lambda: {at: self._offset(at, spec) for at, spec in asked.items()})
        return {
            at: SimpleNamespace(result=lambda _timeout, offset=offset: SimpleNamespace(offset=offset))
            for at, offset in found.items()
        }

    def _offset(self, at: KafkaPartition, spec: OffsetSpec) -> int:
        if isinstance(spec, type(OffsetSpec.earliest())):  # type: ignore[no-untyped-call]
            return 0
        return self._brokers.ends[at.partition] if at.topic == TOPIC else len(self._state.logs[at.partition])


class GroupMember(SimulatedConsumer):
    """Consumer of a flow with state: its membership is what the coordinator checks in transactions."""

    def __init__(
        self, brokers: Brokers, state: StateBrokers, scheduler: Scheduler, on_commit: Any, checks: Any, name: str
    ) -> None:
        super().__init__(brokers, scheduler, on_commit, checks)
        self._state = state
        self._name = name
        self._generation = -1

    @property
    def is_zombie(self) -> bool:
        """True if the group has expelled it, and it may not know yet."""
        return self._state.member != self._name

    @property
    def has_all(self) -> bool:
        """True if no partition is missing."""
        return super().has_all and not self.is_zombie

    def rebalance(self, kind: str, partitions: list[int]) -> None:
        """Assign, revoke or lose partitions in the next poll; those that it loses are already another member's."""
        if kind == "lose":
            self._state.expel()
        super().rebalance(kind, partitions)

    def subscribe(self, topics: list[str], on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        """Join the group."""
        super().subscribe(topics, on_assign, on_revoke, on_lost)
        self._state.join(self._name)

    def consumer_group_metadata(self) -> bytes:
        """Return generation and member, as far as this member knows."""
        name = self._name if self._generation >= 0 else ""
        return _MAGIC + _GENERATION.pack(self._generation) + b"group\0" + name.encode() + b"\0" + b"1"

    def incremental_assign(self, partitions: list[KafkaPartition]) -> None:
        """Read partitions from the group's offsets."""
        for each in partitions:
            self._at[each.partition] = max(0, self._brokers.committed.get((TOPIC, each.partition), (0, ""))[0])
            self._ends_told.discard(each.partition)

    def seek(self, partition: KafkaPartition) -> None:
        """Read a partition from an offset; it may be too early for that."""
        if self._scheduler.chance.random() < 0.1:
            raise KafkaException(KafkaError(KafkaError._STATE))
        self._at[partition.partition] = partition.offset

    def close(self) -> None:
        """Leave the group."""
        if self._callbacks is not None and not self._scheduler.ended:
            self._give_back(list(self._at), "lose" if self.is_zombie else "revoke")
            if not self.is_zombie:
                self._state.expel()

    def _rebalance(self, kind: str, partitions: list[int]) -> bool:
        """Serve a rebalance; returns True if the next one comes with a later poll."""
        self._scheduler.note("rebalance: {} {}", kind, partitions)
        if kind == "assign":
            self._assign([number for number in partitions if number not in self._at])
        elif kind == "joined":
            self._generation = -1 if self.is_zombie else self._state.generation
        elif kind == "lose":
            if self._scheduler.chance.random() < 0.7:
                self._rebalances.insert(0, (kind, partitions))  # it has not heard of it yet
                return True
            self._generation = -1
            self._give_back(list(self._at), kind)
        elif kind == "revoke" and self.is_zombie:
            pass  # the group has forgotten it: it is about to lose all
        elif kind == "revoke" and (numbers := [number for number in partitions if number in self._at]):
            self._give_back(numbers, kind)
            self._state.generation += 1
            self._generation = self._scheduler.chance.choice((-1, self._generation))  # until it has joined again
            self._rebalances.insert(0, ("joined", []))
            return True
        return False

    def _assign(self, numbers: list[int]) -> None:
        assert self._callbacks is not None
        if self.is_zombie and self._at:
            return  # it must lose what it has first
        if self.is_zombie:
            self._state.join(self._name)
        self._state.generation += 1
        self._generation = self._state.generation
        self._state.owned.update(numbers)
        self._callbacks[0](self, [KafkaPartition(TOPIC, number) for number in numbers])

    def _give_back(self, numbers: list[int], kind: str) -> None:
        assert self._callbacks is not None
        if not numbers:
            return
        began = self._scheduler.now
        self._callbacks[1 if kind == "revoke" else 2](self, [KafkaPartition(TOPIC, number) for number in numbers])
        for number in numbers:
            self._at.pop(number, None)
        if not self._scheduler.ended:
            in_time = self._scheduler.now - began < 5.0
            self._checks.left(numbers, lost=kind != "revoke" or self.is_zombie or not in_time)
            self._state.owned.difference_update(numbers)
