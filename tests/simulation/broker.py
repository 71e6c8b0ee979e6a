"""Brokers of the simulation: logs and committed offsets, and a consumer with the interface of confluent_kafka's."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow.model.record import TopicPartition
from simulation.scheduler import Crash, Scheduler

__all__ = ["TOPIC", "Brokers", "Message", "SimulatedConsumer"]

TOPIC = "in"
_ANSWERS_S = (0.0, 0.0, 0.001, 0.01, 0.2)
_REFUSALS = (KafkaError._TIMED_OUT, KafkaError.REBALANCE_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE)

OnPartitions = Callable[[Any, list[KafkaPartition]], Any]


class Message:
    """One message, or the end of a partition."""

    __slots__ = ("_error", "_key", "_offset", "_partition")

    def __init__(self, partition: int, offset: int, key: bytes | None = None, error: KafkaError | None = None) -> None:
        self._partition = partition
        self._offset = offset
        self._key = key
        self._error = error

    def topic(self) -> str:
        """Topic."""
        return TOPIC

    def partition(self) -> int:
        """Partition."""
        return self._partition

    def offset(self) -> int:
        """Offset."""
        return self._offset

    def key(self) -> bytes | None:
        """Key."""
        return self._key

    def value(self) -> bytes:
        """Name of the record: its plan is found by it."""
        return b"%d:%d" % (self._partition, self._offset)

    def timestamp(self) -> tuple[int, int]:
        """Kind and time."""
        return 1, 1_800_000_000_000

    def headers(self) -> None:
        """No headers."""

    def error(self) -> KafkaError | None:
        """Error, for the end of a partition."""
        return self._error


@dataclass
class Brokers:
    """Outlives the processes. `logs` has the offsets that exist, in order: gaps are legal."""

    partitions: int
    logs: dict[int, list[int]] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    """The offset after the last one, markers of transactions included."""
    committed: dict[TopicPartition, tuple[int, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.logs = {number: [] for number in range(self.partitions)}
        self.ends = dict.fromkeys(self.logs, 0)

    def produce(self, chance: random.Random, count: int) -> list[tuple[int, int]]:
        """Append records; returns their partitions and offsets."""
        made = []
        for _ in range(count):
            partition = chance.randrange(self.partitions)
            offset = self.ends[partition] + (chance.randrange(1, 4) if chance.random() < 0.1 else 0)
            self.logs[partition].append(offset)
            self.ends[partition] = offset + 1
            made.append((partition, offset))
        if chance.random() < 0.2:
            self.ends[chance.randrange(self.partitions)] += 1  # the marker of a transaction
        return made


@dataclass
class _Request:
    """A commit on its way."""

    at: float
    offsets: list[KafkaPartition]
    refusal: int | None
    accepted: bool = False


class SimulatedConsumer:
    """Consumer of one process. `checks.commit` gets each commit as it is requested, `checks.begun` each assignment."""

    def __init__(self, brokers: Brokers, scheduler: Scheduler, on_commit: Callable[..., Any], checks: Any) -> None:
        self._brokers = brokers
        self._scheduler = scheduler
        self._on_commit = on_commit
        self._checks = checks
        self._at: dict[int, int] = {}  # the next offset of assigned partitions
        self._paused: set[int] = set()
        self._ends_told: set[int] = set()
        self._requests: list[_Request] = []
        self._callbacks: tuple[OnPartitions, OnPartitions, OnPartitions] | None = None
        self._rebalances: list[tuple[str, list[int]]] = []
        self.trouble = 0.0
        """Probability that a commit is refused or its answer is late."""

    # --- called by the simulation ---------------------------------------------------------------

    @property
    def assigned(self) -> list[int]:
        """Partitions of this consumer."""
        return sorted(self._at)

    @property
    def has_all(self) -> bool:
        """True if no partition is missing."""
        return len(self._at) == self._brokers.partitions

    def rebalance(self, kind: str, partitions: list[int]) -> None:
        """Assign, revoke or lose partitions in the next poll."""
        self._rebalances.append((kind, partitions))

    @property
    def rebalancing(self) -> bool:
        """True if a rebalance waits for the next poll."""
        return bool(self._rebalances)

    @property
    def next_due(self) -> float:
        """Return the time of the next answer."""
        return min((request.at for request in self._requests), default=inf)

    @property
    def has_messages(self) -> bool:
        """True if a poll would return a message."""
        return any(self._left(number) for number in self._at)

    def lose_requests(self) -> None:
        """Let the process die: some of its last commits have reached the brokers."""
        for request in self._requests:
            if request.refusal is None and not request.accepted and self._scheduler.chance.random() < 0.5:
                self._accept(request.offsets)
        self._requests = []

    # --- called by the library ------------------------------------------------------------------

    def subscribe(
        self, topics: list[str], on_assign: OnPartitions, on_revoke: OnPartitions, on_lost: OnPartitions
    ) -> None:
        """Join the group: all partitions come with the first poll."""
        self._callbacks = on_assign, on_revoke, on_lost
        self._rebalances = [("assign", list(self._brokers.logs))]

    def incremental_assign(self, partitions: list[KafkaPartition]) -> None:
        """Read partitions from the given offsets."""
        for each in partitions:
            self._at[each.partition] = max(0, each.offset)
        self._checks.begun([each.partition for each in partitions])

    def unassign(self) -> None:
        """Read nothing any more."""
        self._at.clear()

    def resume(self, partitions: list[KafkaPartition]) -> None:
        """Read partitions again."""
        self._paused.difference_update(each.partition for each in partitions)

    def pause(self, partitions: list[KafkaPartition]) -> None:
        """Read partitions no more for a while."""
        self._paused.update(each.partition for each in partitions)

    def list_topics(self, timeout: float = -1) -> Any:
        """Return the topic with its partitions."""
        return SimpleNamespace(topics={TOPIC: SimpleNamespace(partitions=dict.fromkeys(self._brokers.logs))})

    def get_watermark_offsets(self, partition: KafkaPartition, **_options: Any) -> tuple[int, int]:
        """Return the bounds of a partition."""
        return 0, self._brokers.ends[partition.partition]

    def offsets_for_times(self, partitions: list[KafkaPartition], _timeout: float = -1) -> list[KafkaPartition]:
        """Return the partitions as they are: the reader only wakes up threads with the request."""
        return partitions

    def committed(self, partitions: list[KafkaPartition], timeout: float = -1) -> list[KafkaPartition]:
        """Return what was committed."""
        found = []
        for each in partitions:
            offset, metadata = self._brokers.committed.get((TOPIC, each.partition), (-1001, ""))
            found.append(KafkaPartition(TOPIC, each.partition, offset, metadata))
        return found

    def commit(self, offsets: list[KafkaPartition], asynchronous: bool) -> None:
        """Commit offsets; the answer comes with a later poll, or by return."""
        chance = self._scheduler.chance
        if self._scheduler.ended:
            return
        offsets = sorted(offsets, key=lambda each: each.partition)
        marks = ", ".join(f"{each.partition}:{each.offset} {each.metadata!r}" for each in offsets)
        self._scheduler.note("commit {} {}", "async" if asynchronous else "sync", marks)
        for each in offsets:
            self._checks.commit(each.partition, each.offset, each.metadata or "")
        refusal = chance.choice(_REFUSALS) if chance.random() < self.trouble else None
        if asynchronous:
            # In order, but for a request that is repeated after its connection broke.
            at = self._scheduler.now + chance.choice(_ANSWERS_S)
            last = self._requests[-1].at if self._requests else at
            late = chance.random() < self.trouble
            self._requests.append(_Request(at if late else max(at, last), offsets, refusal))
            return
        if refusal is None or chance.random() < 0.3:  # accepted, and the answer lost
            self._accept(offsets)
        if refusal is not None:
            raise KafkaException(KafkaError(refusal))

    def poll(self, timeout: float) -> Message | None:
        """Let the others work, serve what is due, and return a message."""
        chance, deadline = self._scheduler.chance, self._scheduler.now + timeout
        self._scheduler.changes += 1  # the reader has worked
        while not self._scheduler.ended and self._scheduler.now < deadline:
            if chance.random() < 0.2 and self._due:
                break
            self._scheduler.step()
        if self._scheduler.ended:
            raise Crash
        self._answer()
        while self._rebalances and not self._scheduler.ended:
            if self._rebalance(*self._rebalances.pop(0)):
                break
        if self._scheduler.ended:
            raise Crash
        return next(iter(self.consume(1)), None)

    def consume(self, count: int, timeout: float = 0.0) -> list[Message]:
        """Return messages, partition by partition."""
        chance, found = self._scheduler.chance, list[Message]()
        numbers = sorted(self._at)
        chance.shuffle(numbers)
        for number in numbers:
            left = self._left(number)
            taken = left[: min(count - len(found), chance.randrange(1, 8))]
            found += [Message(number, offset, b"%d" % (offset % 3)) for offset in taken]
            if taken:
                self._at[number] = taken[-1] + 1
                self._ends_told.discard(number)
            elif number not in self._ends_told and number not in self._paused and len(found) < count:
                self._ends_told.add(number)
                at_end = KafkaError(KafkaError._PARTITION_EOF)
                found.append(Message(number, self._brokers.ends[number], error=at_end))
        if found:
            self._scheduler.wake()
        return found

    def close(self) -> None:
        """Leave the group."""
        if self._callbacks is not None and self._at and not self._scheduler.ended:
            self._rebalance("revoke", list(self._at))

    # --- inside ---------------------------------------------------------------------------------

    @property
    def _due(self) -> bool:
        return bool(self._rebalances) or self.next_due <= self._scheduler.now or self.has_messages

    def _left(self, number: int) -> list[int]:
        if number in self._paused:
            return []
        return [offset for offset in self._brokers.logs[number] if offset >= self._at[number]]

    def _answer(self) -> None:
        due = [request for request in self._requests if request.at <= self._scheduler.now]
        self._requests = [request for request in self._requests if request.at > self._scheduler.now]
        for request in sorted(due, key=lambda request: request.at):
            error = None if request.refusal is None else KafkaError(request.refusal)
            if error is None and not request.accepted:
                self._accept(request.offsets)
            self._on_commit(error, request.offsets)

    def _accept(self, offsets: Iterable[KafkaPartition]) -> None:
        """Take commits of partitions that this consumer owns; others have an owner that knows better."""
        for each in offsets:
            if each.partition in self._at:
                self._brokers.committed[TOPIC, each.partition] = each.offset, each.metadata or ""
                self._checks.accepted(each.partition, each.offset, each.metadata or "")

    def _end_generation(self) -> None:
        """Accept or refuse the commits that are on their way: those of an earlier generation are refused later."""
        for request in self._requests:
            if request.refusal is None and not request.accepted:
                request.accepted = self._scheduler.chance.random() < 0.5
                if request.accepted:
                    self._accept(request.offsets)
                else:
                    request.refusal = KafkaError.ILLEGAL_GENERATION

    def _rebalance(self, kind: str, partitions: list[int]) -> bool:
        """Serve a rebalance; returns True if the next one comes with a later poll."""
        assert self._callbacks is not None
        self._end_generation()
        on_assign, on_revoke, on_lost = self._callbacks
        if kind == "assign":
            numbers = [number for number in partitions if number not in self._at]
            self._scheduler.note("rebalance: assign {}", numbers)
            self._checks.begun(numbers)
            on_assign(self, [KafkaPartition(TOPIC, number) for number in numbers])
            for number in numbers:
                self._at[number] = max(0, self._brokers.committed.get((TOPIC, number), (0, ""))[0])
                self._ends_told.discard(number)
            return False
        if kind == "elsewhere":
            self._checks.elsewhere([number for number in partitions if number not in self._at])
            return False
        numbers = [number for number in partitions if number in self._at]
        self._scheduler.note("rebalance: {} {}", kind, numbers)
        if not numbers:
            return False
        (on_revoke if kind == "revoke" else on_lost)(self, [KafkaPartition(TOPIC, number) for number in numbers])
        for number in numbers:
            self._at.pop(number, None)
        if not self._scheduler.ended:
            self._checks.left(numbers, lost=kind != "revoke")
        return False
