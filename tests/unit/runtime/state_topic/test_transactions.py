"""Transactions: each kind of error is answered as it demands, and nothing counts as stored that may not be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow.kernel.state_messages import Position, position_key, value_key
from drakkar_flow.runtime.state_topic.topic import StateTopic
from drakkar_flow.runtime.state_topic.transactions import Change, Outcome, Transaction, Transactions
from support.until import until

POSITION = Position(group="g", flow="f", topic_id="t", offset=7)
WAIT_S = 20.0


class Broker:
    """What the transactions of its producers have written; `errors` has, by call, what the next ones raise."""

    def __init__(self) -> None:
        self.errors: dict[str, list[KafkaError | Exception]] = {}
        self.reports: list[KafkaError] = []
        self.room: list[int] = []
        self.topics = ["state"]
        self.calls: list[str] = []
        self.messages: dict[bytes, bytes | None] = {}
        self.offsets: dict[tuple[str, int], int] = {}
        self.producers = 0
        self.hangs: threading.Event | None = None

    def make(self, properties: dict[str, Any], logger: object) -> Any:
        """Make a producer."""
        self.producers += 1
        assert properties["transactional.id"] == "id"
        return FakeProducer(self)

    def call(self, name: str) -> None:
        """Note a call, and raise its error."""
        self.calls.append(name)
        if self.errors.get(name):
            error = self.errors[name].pop(0)
            raise error if isinstance(error, Exception) else KafkaException(error)


class FakeProducer:
    """A transactional producer in memory."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._messages: dict[bytes, bytes | None] = {}
        self._offsets: dict[tuple[str, int], int] = {}

    def __len__(self) -> int:
        return 0

    def init_transactions(self, _timeout_s: float) -> None:
        """Begin."""
        self._broker.call("init")

    def begin_transaction(self) -> None:
        """Begin a transaction."""
        self._broker.call("begin")
        self._messages, self._offsets = {}, {}

    def produce_batch(
        self, _topic: str, messages: list[dict[str, Any]], *, partition: int, on_delivery: Callable[..., None]
    ) -> int:
        """Take as many messages as there is room for, or report the first one as failed."""
        room = self._broker.room.pop(0) if self._broker.room else len(messages)
        for message in messages[:room]:
            self._messages[message["key"]] = message["value"]
        for message in messages[room:]:
            message["_error"] = KafkaError(KafkaError._QUEUE_FULL)
        if self._broker.reports:
            on_delivery(self._broker.reports.pop(0), SimpleNamespace(key=lambda: messages[-1]["key"]))
        return room

    def send_offsets_to_transaction(self, offsets: list[KafkaPartition], member: bytes, _timeout_s: float) -> None:
        """Add offsets."""
        assert member == b"member"
        self._broker.call("offsets")
        if self._broker.hangs is not None:
            self._broker.hangs.wait(WAIT_S)
            raise KafkaException(fatal(KafkaError._FENCED))
        self._offsets = {(each.topic, each.partition): each.offset for each in offsets}

    def commit_transaction(self, _timeout_s: float) -> None:
        """Commit."""
        self._broker.call("commit")
        self._broker.messages |= self._messages
        self._broker.offsets |= self._offsets

    def abort_transaction(self, _timeout_s: float) -> None:
        """Abort."""
        self._broker.call("abort")

    def flush(self, _timeout_s: float) -> int:
        """Nothing waits."""
        return 0

    def list_topics(self, *, timeout: float) -> Any:
        """The topics that exist."""
        return SimpleNamespace(topics=self._broker.topics)


@pytest.fixture
def broker() -> Broker:
    """Nothing is written yet."""
    return Broker()


@pytest.fixture
def transactions(broker: Broker) -> Iterator[Transactions]:
    """They run."""
    made = Transactions(StateTopic({}, "state", ["in"]), "id", make=broker.make)
    yield made
    made.close()


def transaction(**values: bytes | None) -> Transaction:
    """The changes of one partition."""
    changes = {("count", key): value for key, value in values.items()}
    return Transaction([Change(("in", 0), POSITION, changes)], [KafkaPartition("in", 0, 7)], b"member")


def commit(transactions: Transactions, given: Transaction) -> Outcome:
    """Commit and wait for the outcome."""
    transactions.submit(given)
    outcome = transactions.outcome(WAIT_S)
    assert outcome is not None
    return outcome


def test_values_position_and_offsets_are_one_transaction(broker: Broker, transactions: Transactions) -> None:
    """Removed values are tombstones."""
    transactions.start()
    assert commit(transactions, transaction(anna=b"1", otto=None)) == Outcome()
    assert broker.messages == {
        position_key("in"): POSITION.encode(),
        value_key("in", ("count", "anna")): b"1",
        value_key("in", ("count", "otto")): None,
    }
    assert broker.offsets == {("in", 0): 7}
    assert broker.calls == ["init", "begin", "offsets", "commit"]
    assert transactions.outcome(0.0) is None


def retriable(code: int) -> KafkaError:
    """An error after which the same call is made again."""
    return KafkaError(code, "again", False, True, False)


def abortable(code: int) -> KafkaError:
    """An error after which the transaction must be aborted."""
    return KafkaError(code, "abort", False, False, True)


def fatal(code: int) -> KafkaError:
    """An error after which the producer can't be used."""
    return KafkaError(code, "fatal", True, False, False)


@pytest.mark.parametrize("call", ["init", "commit"])
def test_a_call_that_runs_out_of_time_is_made_again(broker: Broker, transactions: Transactions, call: str) -> None:
    """Librdkafka goes on in the background; the call resumes it."""
    broker.errors[call] = [retriable(KafkaError._TIMED_OUT), retriable(KafkaError.COORDINATOR_NOT_AVAILABLE)]
    transactions.start()
    assert commit(transactions, transaction(anna=b"1")) == Outcome()
    assert broker.calls.count(call) == 3
    assert broker.producers == 1


@pytest.mark.parametrize("call", ["offsets", "commit"])
@pytest.mark.parametrize("code", [KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError._TIMED_OUT])
def test_a_refused_transaction_is_aborted_and_stores_nothing(
    broker: Broker, transactions: Transactions, call: str, code: int
) -> None:
    """The producer goes on."""
    broker.errors[call] = [abortable(code)]
    transactions.start()
    outcome = commit(transactions, transaction(anna=b"1"))
    assert outcome.error
    assert not outcome.stops
    assert broker.calls[-1] == "abort"
    assert not broker.messages
    assert not broker.offsets
    assert commit(transactions, transaction(anna=b"2")) == Outcome()
    assert broker.producers == 1


def test_offsets_are_sent_once_in_a_transaction(broker: Broker, transactions: Transactions) -> None:
    """Librdkafka hangs in a second call after the timeout of the transaction."""
    broker.errors["offsets"] = [retriable(KafkaError._TIMED_OUT)]
    transactions.start()
    assert commit(transactions, transaction(anna=b"1")).error
    assert broker.calls == ["init", "begin", "offsets", "abort"]
    assert commit(transactions, transaction(anna=b"2")) == Outcome()


@pytest.mark.parametrize("call", ["begin", "offsets", "commit"])
@pytest.mark.parametrize("code", [KafkaError._FENCED, KafkaError.INVALID_TXN_STATE])
def test_a_producer_that_failed_is_replaced(broker: Broker, transactions: Transactions, call: str, code: int) -> None:
    """For example because the brokers have aborted a transaction that took too long."""
    broker.errors[call] = [fatal(code)]
    transactions.start()
    outcome = commit(transactions, transaction(anna=b"1"))
    assert outcome.error
    assert not outcome.stops
    assert "abort" not in broker.calls
    assert commit(transactions, transaction(anna=b"2")) == Outcome()
    assert broker.producers == 2


def test_a_transaction_that_can_not_be_aborted_replaces_the_producer(
    broker: Broker, transactions: Transactions
) -> None:
    """The new one ends what is open."""
    broker.errors = {"offsets": [abortable(KafkaError._TIMED_OUT)], "abort": [fatal(KafkaError._FENCED)]}
    transactions.start()
    assert commit(transactions, transaction(anna=b"1")).error
    assert commit(transactions, transaction(anna=b"2")) == Outcome()
    assert broker.producers == 2


def test_two_processes_with_one_transactional_id_end_the_flow(broker: Broker, transactions: Transactions) -> None:
    """They fence each other again and again."""
    broker.errors["commit"] = [fatal(KafkaError._FENCED) for _ in range(3)]
    transactions.start()
    first, second, third = (commit(transactions, transaction(anna=b"1")) for _ in range(3))
    assert not first.stops
    assert not second.stops
    assert third.stops
    assert "another process uses the transactional id 'id'" in third.error


def test_a_missing_right_ends_the_flow(broker: Broker, transactions: Transactions) -> None:
    """Waiting does not help."""
    broker.errors["init"] = [fatal(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED) for _ in range(2)]
    transactions.start()
    outcome = commit(transactions, transaction(anna=b"1"))
    assert outcome.stops
    assert "may not use its transactional.id" in outcome.error


def test_an_unexpected_error_ends_the_flow(broker: Broker, transactions: Transactions) -> None:
    """Its text is the reason; nothing of the transaction is stored."""
    broker.errors["offsets"] = [TypeError("surprise")]
    transactions.start()
    assert commit(transactions, transaction(anna=b"1")) == Outcome("surprise", stops=True)
    assert not broker.messages


def test_a_full_queue_is_waited_for(broker: Broker, transactions: Transactions) -> None:
    """No message is left out."""
    broker.room = [1, 0, 2]
    transactions.start()
    assert commit(transactions, transaction(a=b"1", b=b"2", c=b"3", d=b"4")) == Outcome()
    assert len(broker.messages) == 5


def test_a_value_beyond_the_limit_is_named_before_anything_is_written(
    broker: Broker, transactions: Transactions
) -> None:
    """The default of the brokers is 1 MiB."""
    transactions.start()
    outcome = commit(transactions, transaction(anna=b"1", otto=bytes(1 << 20)))
    assert outcome.stops
    assert outcome.error.startswith("state of count, key 'otto' of in-0: 1048576 bytes are too many")
    assert not broker.messages


def test_a_message_that_the_brokers_refuse_is_named(broker: Broker, transactions: Transactions) -> None:
    """Their limit may be lower than the topic's settings say."""
    broker.reports = [KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)]
    transactions.start()
    outcome = commit(transactions, transaction(anna=b"1"))
    assert outcome.stops
    assert 'the value of ["in","count","anna"] is too large' in outcome.error
    assert broker.calls[-1] == "abort"


@pytest.mark.parametrize("deleted", [True, False])
def test_a_deleted_topic_ends_the_flow_and_a_late_partition_does_not(
    broker: Broker, transactions: Transactions, deleted: bool
) -> None:
    """A client knows an added partition only after it has asked for the topics."""
    broker.reports = [KafkaError(KafkaError._UNKNOWN_PARTITION)]
    broker.topics = [] if deleted else ["state"]
    transactions.start()
    outcome = commit(transactions, transaction(anna=b"1"))
    assert outcome.stops is deleted
    assert ("was deleted" in outcome.error) is deleted


def test_a_close_ends_a_transaction_that_waits_for_brokers(broker: Broker, transactions: Transactions) -> None:
    """The brokers abort it."""
    broker.errors["commit"] = [retriable(KafkaError._TIMED_OUT) for _ in range(100_000)]
    transactions.start()
    transactions.submit(transaction(anna=b"1"))
    transactions.close()
    outcome = transactions.outcome(WAIT_S)
    assert outcome is not None
    assert outcome.error


def test_a_client_that_hangs_is_replaced(broker: Broker) -> None:
    """The new producer fences it; what it says later is not heard."""
    released = threading.Event()
    made = Transactions(StateTopic({}, "state", ["in"]), "id", make=broker.make, hung_s=0.2)
    made.start()
    broker.hangs = released
    made.submit(transaction(anna=b"1"))
    until(lambda: "offsets" in broker.calls, what="the call that hangs")
    outcome: list[Outcome | None] = []
    until(lambda: outcome.append(made.outcome(0.05)) or outcome[-1], what="an outcome")  # type: ignore[func-returns-value]  # None on purpose
    assert outcome[-1] == Outcome("the Kafka client has not answered for 0.2 s")
    broker.hangs = None
    assert commit(made, transaction(anna=b"2")) == Outcome()
    assert broker.producers == 2
    released.set()
    assert made.outcome(0.05) is None
    made.close()
