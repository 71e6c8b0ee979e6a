"""Transactions: write changed values, positions and the group's offsets of a flow with state, on a separate thread.

The calls of a transactional producer block: for a round trip each, or for as long as the brokers are away. On a
separate thread they hold up neither the reader nor the answers to rebalances.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow.kernel.kafka_errors import SEVERITIES, Severity, report
from drakkar_flow.kernel.partition_row import StateKey
from drakkar_flow.kernel.state_messages import Position, position_key, value_key
from drakkar_flow.librdkafka import UNSERVED, destroy_in_background
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.model.state import key_of
from drakkar_flow.runtime.failures import describe
from drakkar_flow.runtime.state_topic.topic import StateTopic

__all__ = ["TIMEOUT_MS", "Change", "Outcome", "Transaction", "Transactions", "producer_properties"]

TIMEOUT_MS = 10_000
"""Milliseconds after which the brokers abort the transaction of a member that ended."""
_ASK_S = 5.0  # the longest request for the brokers' topics
_STEP_S = 1.0  # one call that can be resumed
_OFFSETS_S = 8.0  # the call that can't be resumed: then the transaction is aborted
_ABORT_S = 10.0  # then a new producer aborts it: this one may have forgotten its brokers
_GIVE_UP_S = 25.0  # a transaction that can't be ended for so long: a new producer ends it
_HUNG_S = 20.0  # longer than any single call may take
_PORTION = 50_000  # messages handed to the client at once
_PORTION_BYTES = 32 << 20
_FENCED_TIMES = 3  # in _FENCED_S: then another process uses the transactional id
_FENCED_S = 60.0


class Change(NamedTuple):
    """Changes of one partition: its position, and changed values, None for removed ones."""

    at: TopicPartition
    position: Position
    values: Mapping[StateKey, bytes | None]


class Transaction(NamedTuple):
    """One transaction. `member` is the group's metadata of the instant at which the changes were taken."""

    changes: Sequence[Change]
    offsets: list[KafkaPartition]
    member: bytes


class Outcome(NamedTuple):
    """Outcome of a transaction: committed without `error`, else its changes must be written again.

    `stops` is True if no new attempt can help.
    """

    error: str = ""
    stops: bool = False
    cause: KafkaError | None = None


class Transactions:
    """Commits one transaction at a time. Used by the reader's thread, and never blocks it without a timeout.

    A client whose call does not return for 20 s is left to itself and replaced: `send_offsets_to_transaction` may wait
    without end for a broker that was killed (librdkafka 2.16). The new client fences it.

    Args:
        topic: the state topic.
        transactional_id: no two living members have the same.
        make: makes the producer; tests pass their own.
        hung_s: seconds after which a client counts as hung.
    """

    def __init__(
        self,
        topic: StateTopic,
        transactional_id: str,
        make: Callable[..., Producer] = Producer,
        hung_s: float = _HUNG_S,
    ) -> None:
        self._make_client = partial(_Client, topic, transactional_id, make)
        self._hung_s = hung_s
        self._client = self._make_client()
        self._submitted_at: float | None = None

    def start(self) -> None:
        """Start the thread; a transaction that an earlier process of this name has left open is ended."""
        self._client.start()

    def submit(self, transaction: Transaction) -> None:
        """Commit a transaction; the one before must have its outcome."""
        self._submitted_at = time.monotonic()
        self._client.submit(transaction)

    def outcome(self, timeout_s: float) -> Outcome | None:
        """Return the outcome of the transaction; None if it takes longer. Without a timeout never blocks."""
        outcome = self._client.outcome(timeout_s)
        if outcome is not None:
            self._submitted_at = None
        elif self._submitted_at is not None and self._is_hung(self._submitted_at):
            self._submitted_at = None
            self._client.close()
            self._client = self._make_client()
            self._client.start()
            return Outcome(f"the Kafka client has not answered for {self._hung_s:g} s")
        return outcome

    def close(self) -> None:
        """End the thread; returns at once. A transaction without outcome is aborted by the brokers."""
        self._client.close()

    def _is_hung(self, submitted_at: float) -> bool:
        return time.monotonic() - max(submitted_at, self._client.called_at) > self._hung_s


class _Client:
    """A transactional producer and its thread.

    A failed producer is replaced; the new one ends the transaction that the former has left open. If it can't be known
    whether a transaction was committed it counts as failed: writing it again changes nothing.
    """

    def __init__(self, topic: StateTopic, transactional_id: str, make: Callable[..., Producer]) -> None:
        self.transactional_id = transactional_id
        self._topic = topic
        self._make = make
        self._given: queue.SimpleQueue[Transaction | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._closing = False
        self.called_at = 0.0
        """Monotonic time of the last call of the client library."""
        self._producer: Producer | None = None
        self._reported: tuple[KafkaError, bytes | None] | None = None  # the first message that was refused
        self._fenced: deque[float] = deque(maxlen=_FENCED_TIMES)
        self._thread = threading.Thread(target=self._run, name="drakkar-state", daemon=True)

    # --- what the reader's thread calls ---------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, transaction: Transaction) -> None:
        """Commit a transaction."""
        self._given.put(transaction)

    def outcome(self, timeout_s: float) -> Outcome | None:
        """Return the outcome of a transaction; None if it takes longer."""
        try:
            return self._outcomes.get(timeout=timeout_s) if timeout_s > 0 else self._outcomes.get_nowait()
        except queue.Empty:
            return None

    def close(self) -> None:
        """End the thread; returns at once."""
        self._closing = True
        self._given.put(None)

    # --- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._ready(time.monotonic() + _GIVE_UP_S)
        except KafkaException as exc:  # the first transaction reports it
            self._replace(exc.args[0])
        while (given := self._given.get()) is not None:
            try:
                self._outcomes.put(self._commit(given))
            except Exception as exc:  # a bug: without an outcome the client would count as hung, again and again
                self._let_go()
                self._outcomes.put(Outcome(describe(exc), stops=True))
        self._let_go()

    def _commit(self, transaction: Transaction) -> Outcome:
        deadline = time.monotonic() + _GIVE_UP_S
        if too_large := self._too_large(transaction):
            return Outcome(too_large, stops=True)
        self._reported = None
        try:
            producer = self._ready(deadline)
            self.called_at = time.monotonic()
            producer.begin_transaction()
            self._produce(producer, transaction, deadline)
            # Once: the client waits without end for a second call in a transaction that has outlived its timeout.
            self.called_at = time.monotonic()
            producer.send_offsets_to_transaction(transaction.offsets, transaction.member, _OFFSETS_S)
            self._resumed(producer.commit_transaction, deadline)
        except KafkaException as exc:
            return self._failed(exc.args[0])
        return Outcome()

    def _ready(self, deadline: float) -> Producer:
        """Return a producer that may begin a transaction."""
        if self._producer is None:
            producer = self._make(producer_properties(self._topic, self.transactional_id), logger=UNSERVED)
            self._producer = producer
            self._resumed(producer.init_transactions, deadline)
        return self._producer

    def _produce(self, producer: Producer, transaction: Transaction, deadline: float) -> None:
        for number, messages in _portions(transaction.changes):
            left = messages
            while left:
                self.called_at = time.monotonic()
                producer.produce_batch(self._topic.name, left, partition=number, on_delivery=self._on_report)
                left = self._refused(left)
                if left or len(producer) > _PORTION:
                    producer.flush(_STEP_S)
                if self._reported is not None:
                    raise KafkaException(self._reported[0])
                if time.monotonic() > deadline:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "the brokers take no messages"))  # noqa: SLF001

    def _refused(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the messages that the client's queue had no room for; notes one that the client refused."""
        left = []
        for message in messages:
            error = message.pop("_error", None)
            if error is not None and error.code() == KafkaError._QUEUE_FULL:  # noqa: SLF001
                left.append(message)
            elif error is not None:
                self._on_report(error, None, message["key"])
        return left

    def _resumed(self, call: Callable[[float], None], deadline: float) -> None:
        """Call a function that may be called again after it ran out of time."""
        while True:
            self.called_at = time.monotonic()
            try:
                call(_STEP_S)
            except KafkaException as exc:
                if not exc.args[0].retriable() or self._closing or time.monotonic() > deadline:
                    raise
                if exc.args[0].code() != KafkaError._TIMED_OUT:  # noqa: SLF001 - librdkafka's public name for it
                    time.sleep(0.1)
            else:
                return

    def _failed(self, error: KafkaError) -> Outcome:
        """Abort the transaction, or replace a producer that can't be used any more."""
        reported, self._reported = self._reported, None
        if self._producer is not None and not error.fatal():
            try:
                self._resumed(self._producer.abort_transaction, time.monotonic() + _ABORT_S)
            except KafkaException as exc:
                self._replace(exc.args[0])
        else:
            self._replace(error)
        cause = error if reported is None else reported[0]
        text = report(cause)
        if len(self._fenced) == _FENCED_TIMES and self._fenced[-1] - self._fenced[0] < _FENCED_S:
            what = f"another process uses the transactional id {self.transactional_id!r}"
            return Outcome(f"{what}: give every worker another kafka.group_instance_id, or none", stops=True)
        if cause.code() in _TOO_LARGE and reported is not None:
            key = (reported[1] or b"").decode(errors="replace")
            what = f"the value of {key} is too large for the state topic {self._topic.name!r}"
            return Outcome(f"{what}: raise its max.message.bytes, or keep less per key", stops=True)
        if cause.code() in _MAYBE_DELETED and self._is_deleted():
            return Outcome(f"the state topic {self._topic.name!r} was deleted", stops=True)
        return Outcome(text, SEVERITIES.get(cause.name()) is Severity.CONFIGURATION, cause)

    def _too_large(self, transaction: Transaction) -> str:
        """Return the reason why a value can't be written; empty if all can."""
        largest = self._topic.largest_value
        for at, _, values in transaction.changes:
            for (step, key), value in values.items():
                if value is not None and len(value) + len(key) > largest:
                    return (
                        f"state of {step}, key {key_of(key)!r} of {at[0]}-{at[1]}: {len(value)} bytes are too many for "
                        f"the state topic {self._topic.name!r}: raise its max.message.bytes, or keep less per key"
                    )
        return ""

    def _is_deleted(self) -> bool:
        """Ask the brokers for their topics; this also makes partitions known that were added."""
        if self._producer is None:
            return False
        self.called_at = time.monotonic()
        try:
            return self._topic.name not in self._producer.list_topics(timeout=_ASK_S).topics
        except KafkaException:
            return False

    def _replace(self, error: KafkaError) -> None:
        """Use a new producer for the next transaction."""
        if error.name() in _FENCED:
            self._fenced.append(time.monotonic())
        self._let_go()

    def _let_go(self) -> None:
        if self._producer is not None:
            left, self._producer = [self._producer], None
            destroy_in_background(left)

    def _on_report(self, error: KafkaError | None, message: Any, key: bytes | None = None) -> None:
        if error is not None and self._reported is None and error.code() not in _PURGED:
            self._reported = (error, message.key() if message is not None else key)


def producer_properties(topic: StateTopic, transactional_id: str) -> dict[str, Any]:
    """Return the properties of the producer; those that exactness rests on can't be overridden."""
    defaults = {"linger.ms": 5, "queue.buffering.max.messages": 4 * _PORTION, "log_level": 0}
    fixed = {
        "transactional.id": transactional_id,
        "transaction.timeout.ms": TIMEOUT_MS,
        "delivery.report.only.error": True,
        "message.max.bytes": min(1_000_000_000, max(1_000_000, topic.largest_value + 1024)),
        "queue.buffering.max.kbytes": 512 * 1024,
    }
    return {**defaults, **topic.client, **fixed}


def _portions(changes: Sequence[Change]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yield messages by partition of the state topic."""
    for (topic, number), position, values in changes:
        messages: list[dict[str, Any]] = [{"key": position_key(topic), "value": position.encode()}]
        size = 0
        for key, value in values.items():
            messages.append({"key": value_key(topic, key), "value": value})
            size += 0 if value is None else len(value)
            if len(messages) >= _PORTION or size > _PORTION_BYTES:
                yield number, messages
                messages, size = [], 0
        if messages:
            yield number, messages


_FENCED = frozenset({"_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH", "INVALID_PRODUCER_ID_MAPPING"})
"""Another producer of this transactional id began, or the brokers have aborted its transaction: it took too long."""
_TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
_MAYBE_DELETED = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - librdkafka's public name for it
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
        KafkaError._MSG_TIMED_OUT,  # noqa: SLF001
    }
)
_PURGED = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})  # noqa: SLF001
