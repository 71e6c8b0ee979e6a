"""Which messages failed is told exactly, and success is never assumed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.errors import SinkError, SinkMisconfigured, SinkRejected, StartupError
from drakkar_flow.sinks.kafka.client import KafkaClient, Outgoing, TooLarge, portions, producer_config


class FakeProducer:
    """Takes messages like confluent-kafka's, and ends them as `verdict` says when it is flushed.

    A verdict is None for acknowledged, an error code for failed, "stuck" for no report at all.
    """

    def __init__(self, verdict: Callable[[Outgoing, int], Any], purges: bool = True) -> None:
        self.verdict = verdict
        self.purges = purges
        self.queue: list[Outgoing] = []
        self.flushes: list[list[Any]] = []
        self.fatal: KafkaError | None = None

    def produce_batch(self, topic: str, batch: list[Outgoing]) -> int:
        for message in batch:
            if (code := self.verdict(message, 0)) == KafkaError._QUEUE_FULL:
                message["_error"] = KafkaError(code)
            else:
                self.queue.append(message)
        return sum("_error" not in message for message in batch)

    def produce(self, topic: str, **message: Any) -> None:
        if self.verdict(message, 0) == "buffer":
            raise BufferError("Local: Queue full")
        if self.verdict(message, 0) == "type":
            raise TypeError("expected headers")
        self.queue.append(message)

    def flush(self, timeout: float) -> int:
        if self.fatal is not None:
            raise KafkaException(self.fatal)
        queue, self.queue = self.queue, []
        self.flushes.append([message["value"] for message in queue])
        for message in queue:
            verdict = self.verdict(message, len(queue))
            if verdict == "stuck":
                self.queue.append(message)
            elif verdict is not None:
                message["callback"](KafkaError(verdict), None)
        return len(self.queue)

    def purge(self) -> None:
        if self.purges:
            for message in self.queue:
                message["callback"](KafkaError(KafkaError._PURGE_INFLIGHT), None)
            self.queue = []


def client(*producers: FakeProducer, **config: Any) -> KafkaClient:
    """A client that gets these producers, one after the other."""
    left = list(producers)
    settings = producer_config("b:9092", config)
    return KafkaClient("sinks.kafka.x", "t", settings, make=lambda *_, **__: left.pop(0))  # type: ignore[arg-type]  # a fake of what is used


def messages(*values: bytes, **more: Any) -> list[Outgoing]:
    """Messages without keys."""
    return [{"value": value, "key": None} | more for value in values]


def failing(**codes: Any) -> Callable[[Outgoing, int], Any]:
    """A verdict by the message's value."""
    return lambda message, _: codes.get(message["value"].decode())


def test_messages_without_a_report_are_acknowledged() -> None:
    """A flush that leaves nothing behind and reports nothing is success."""
    assert client(FakeProducer(failing())).send(messages(b"a", b"b")) == {}


def test_the_failed_message_is_known_even_among_equals() -> None:
    """The position tells, not the contents."""
    producer = FakeProducer(failing())
    calls = iter([None, KafkaError._MSG_TIMED_OUT, None])
    producer.verdict = lambda message, count: next(calls) if count else None

    failed = client(producer).send(messages(b"same", b"same", b"same"))

    assert list(failed) == [1]
    assert not isinstance(failed[1], SinkRejected)


@pytest.mark.parametrize(
    ("code", "final"),
    [
        (KafkaError._MSG_TIMED_OUT, False),
        (KafkaError.NOT_ENOUGH_REPLICAS, False),
        (KafkaError._UNKNOWN_TOPIC, False),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, False),
        (KafkaError._PURGE_INFLIGHT, False),
        (KafkaError.MSG_SIZE_TOO_LARGE, True),
        (KafkaError.INVALID_RECORD, True),
        (KafkaError._UNKNOWN_PARTITION, False),
    ],
)
def test_only_what_is_the_messages_own_fault_is_final(code: int, final: bool) -> None:
    """Errors of brokers, topics and permissions may pass; those of a message don't."""
    failed = client(FakeProducer(failing(a=code))).send(messages(b"a"))

    assert isinstance(failed[0], SinkRejected) is final


def test_n1_what_is_about_the_topic_is_told_from_what_is_about_the_message() -> None:
    """SinkMisconfigured: the topic or the rights; a partition that the payload chose is its own mistake."""
    verdict = failing(
        a=KafkaError.TOPIC_AUTHORIZATION_FAILED, b=KafkaError._UNKNOWN_TOPIC, c=KafkaError._UNKNOWN_PARTITION
    )
    failed = client(FakeProducer(verdict)).send([*messages(b"a", b"b", b"c"), *messages(b"c", partition=99)])
    assert [type(failed[index]) for index in range(4)] == [*[SinkMisconfigured] * 3, SinkRejected]


def test_neighbours_of_a_message_too_large_are_sent_again_alone() -> None:
    """A broker refuses the whole request; only the large message itself fails in the end."""
    producer = FakeProducer(failing())
    producer.verdict = lambda message, count: (
        KafkaError.MSG_SIZE_TOO_LARGE if count > 1 or message["value"] == b"large" else None
    )

    failed = client(producer).send(messages(b"a", b"large", b"b"))

    assert list(failed) == [1]
    assert isinstance(failed[1], TooLarge)
    assert producer.flushes == [[b"a", b"large", b"b"], [b"a"], [b"large"], [b"b"]]


def test_a_refusal_by_the_local_queue_is_known_by_position() -> None:
    """What produce_batch marks as refused fails; the rest of the batch is sent."""
    failed = client(FakeProducer(failing(big=KafkaError._QUEUE_FULL))).send(messages(b"a", b"big", b"b"))

    assert list(failed) == [1]
    assert isinstance(failed[1], TooLarge)


def test_messages_with_headers_go_one_by_one_and_in_order() -> None:
    """produce_batch knows no headers; the order among both kinds stays."""
    producer = FakeProducer(failing(t="type", f="buffer"))
    batch = [*messages(b"a"), *messages(b"b", b"t", b"f", headers=[]), *messages(b"c")]

    failed = client(producer).send(batch)

    assert producer.flushes[0] == [b"a", b"b", b"c"]
    assert list(failed) == [2, 3]
    assert isinstance(failed[2], SinkRejected)


def test_what_a_flush_leaves_behind_is_purged_and_failed() -> None:
    """Messages without a report never count as written; the next send gets a new producer."""
    first, second = FakeProducer(failing(b="stuck")), FakeProducer(failing())
    sender = client(first, second)

    failed = sender.send(messages(b"a", b"b"))
    assert list(failed) == [1]
    assert not isinstance(failed[1], SinkRejected)

    assert sender.send(messages(b"c")) == {}
    assert second.flushes == [[b"c"]]


def test_without_any_reports_the_outcome_of_all_is_unknown() -> None:
    """If not even a purge brings the reports, every message of the portion counts as failed."""
    failed = client(FakeProducer(failing(b="stuck"), purges=False)).send(messages(b"a", b"b"))

    assert list(failed) == [0, 1]
    assert "unknown" in str(failed[0])


def test_a_fatal_error_fails_the_portion_and_the_next_one_works() -> None:
    """A producer that lost its place (a gap, fenced) is replaced."""
    first, second = FakeProducer(failing()), FakeProducer(failing())
    first.fatal = KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, fatal=True)
    sender = client(first, second)

    failed = sender.send(messages(b"a", b"b"))

    assert list(failed) == [0, 1]
    assert all(type(error) is SinkError for error in failed.values())
    assert sender.send(messages(b"a", b"b")) == {}


def test_a_fatal_report_replaces_the_producer_too() -> None:
    """The error may come as a message's report instead of an exception."""
    first, second = FakeProducer(failing(a=KafkaError._FATAL)), FakeProducer(failing())
    sender = client(first, second)

    assert list(sender.send(messages(b"a", b"b"))) == [0]
    assert sender.send(messages(b"a")) == {}


def test_a_producer_whose_messages_timed_out_is_replaced() -> None:
    """It may have lost every broker for good, though they are back."""
    first, second = FakeProducer(failing(a=KafkaError._MSG_TIMED_OUT)), FakeProducer(failing())
    sender = client(first, second)

    assert list(sender.send(messages(b"a", b"b"))) == [0]
    assert sender.send(messages(b"a")) == {}
    assert second.flushes == [[b"a"]]


def test_a_producer_that_was_given_up_is_destroyed_by_another_thread() -> None:
    """Librdkafka may take for ever to destroy it."""
    destroyed_by: list[str] = []
    gone = threading.Event()

    class Mortal(FakeProducer):
        def __del__(self) -> None:
            destroyed_by.append(threading.current_thread().name)
            gone.set()

    sender = client(Mortal(failing(a=KafkaError._MSG_TIMED_OUT)), FakeProducer(failing()))
    sender.send(messages(b"a"))
    sender.send(messages(b"b"))

    assert gone.wait(30)
    assert destroyed_by == ["drakkar-let-go"]


def test_large_batches_go_in_portions() -> None:
    """No more is handed over at once than the configuration lets librdkafka hold."""
    producer = FakeProducer(failing(m2=KafkaError._MSG_TIMED_OUT))
    sender = client(producer, **{"queue.buffering.max.messages": 2})

    failed = sender.send(messages(b"m0", b"m1", b"m2"))

    assert producer.flushes == [[b"m0", b"m1"], [b"m2"]]
    assert list(failed) == [2]


@given(st.lists(st.binary(max_size=20), max_size=30), st.integers(min_value=1, max_value=7), st.integers(1, 40))
def test_portions_cover_everything_once_within_their_bounds(values: list[bytes], count: int, size: int) -> None:
    """Portions are adjacent, never empty, and larger than the bound only with a single message."""
    batch = messages(*values)
    cuts = list(portions(batch, count, size))

    assert [index for start, stop in cuts for index in range(start, stop)] == list(range(len(batch)))
    for start, stop in cuts:
        assert 1 <= stop - start <= count
        assert stop - start == 1 or sum(map(len, values[start:stop])) <= size


def test_wrong_properties_are_a_configuration_problem() -> None:
    """librdkafka's own words, the setting and exit code 2; acks=0 is refused because it proves nothing."""
    for config in ({"bogus": 1}, {"acks": 0}, {"acks": "1"}):
        with pytest.raises(StartupError) as caught:
            KafkaClient("sinks.kafka.x", "t", producer_config("127.0.0.1:1", config)).connect()

        assert caught.value.exit_code == 2
        assert caught.value.problems[0].where == "sinks.kafka.x.client_config"


def test_missing_brokers_are_a_configuration_problem() -> None:
    """Without an address there is nothing to wait for."""
    with pytest.raises(StartupError) as caught:
        KafkaClient("dlq", "t", producer_config("", {})).connect()

    assert caught.value.exit_code == 2
    assert "kafka.brokers" in str(caught.value)
