"""The Kafka sink and the dead letter queue against real brokers."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # public, but not in its __all__

from drakkar_flow.errors import BatchFailed, SinkRejected, StartupError
from drakkar_flow.model.outcome import Delivery, Failure, FailureKind
from drakkar_flow.model.record import Record
from drakkar_flow.sinks.dlq import DeadLetterQueue
from drakkar_flow.sinks.kafka.payload import KafkaPayload
from drakkar_flow.sinks.kafka.settings import KafkaSinkConfig
from drakkar_flow.sinks.kafka.sink import MAX_IN_FLIGHT, SPEC, KafkaSink
from drakkar_flow.testing.conformance import deliver
from support.kafka_io import Kafka, MakeCluster, MakeTopic, create_topic, delete_topics, read_all
from support.names import unique
from support.proxy import TcpProxy

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def connected(bootstrap: str, topic: str, **settings: Any) -> KafkaSink:
    """A sink that is connected."""
    sink = KafkaSink("results", KafkaSinkConfig(topic=topic, brokers=bootstrap, **settings))
    await sink.connect()
    return sink


def batch(*payloads: KafkaPayload) -> list[Delivery]:
    """Deliveries without holds."""
    return [Delivery(payload, ()) for payload in payloads]


@pytest.fixture
def narrow_topic(kafka: Kafka) -> Iterator[str]:
    """A topic that takes messages of at most 10,000 bytes."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    name = unique("narrow")
    admin.create_topics([NewTopic(name, 1, config={"max.message.bytes": "10000"})])[name].result(20)
    yield name
    delete_topics(admin, [name])


async def test_a_message_arrives_with_all_its_parts(kafka: Kafka, make_topic: MakeTopic) -> None:
    """Key, value, headers, partition and timestamp are what the payload says."""
    topic = make_topic(4)
    sink = await connected(kafka.bootstrap, topic)
    payload = KafkaPayload(
        data=b"\xff", key="ü", headers=[("a", b"\xfe"), ("a", b"2")], partition=3, timestamp=1700000000000
    )
    await sink.write_batch(batch(KafkaPayload(data="plain"), payload))
    await sink.close()

    message = next(each for each in read_all(kafka.bootstrap, topic) if each.key())
    assert (message.key(), message.value(), message.partition()) == ("ü".encode(), b"\xff", 3)
    assert message.headers() == [("a", b"\xfe"), ("a", b"2")]
    assert message.timestamp()[1] == 1700000000000


async def test_equal_keys_keep_their_order_in_overlapping_batches(kafka: Kafka, make_topic: MakeTopic) -> None:
    """With as many calls in flight as are allowed, and messages of both kinds mixed."""
    topic = make_topic(4)
    sink = await connected(kafka.bootstrap, topic)

    def numbered(start: int) -> list[Delivery]:
        headers = [("h", b"")]
        return batch(
            *[
                KafkaPayload(data=n, key=f"k{n % 7}", headers=headers if n % 5 == 0 else None)
                for n in range(start, start + 300)
            ]
        )

    async with anyio.create_task_group() as group:
        for call in range(MAX_IN_FLIGHT):
            group.start_soon(sink.write_batch, numbered(call * 300))
    await sink.close()

    seen: dict[bytes | str | None, list[int]] = {}
    for message in read_all(kafka.bootstrap, topic, 300 * MAX_IN_FLIGHT):
        seen.setdefault(message.key(), []).append(int(message.value() or b""))
    assert len(seen) == 7
    assert sum(len(numbers) for numbers in seen.values()) == 300 * MAX_IN_FLIGHT
    assert all(numbers == sorted(numbers) for numbers in seen.values())


async def test_only_what_is_too_large_itself_fails(kafka: Kafka, narrow_topic: str) -> None:
    """The broker refuses requests as a whole; messages that fit are written all the same, once."""
    sink = await connected(kafka.bootstrap, narrow_topic)
    good = [KafkaPayload(data=str(n)) for n in range(20)]
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch(
            batch(*good[:10], KafkaPayload(data="x" * 20_000), *good[10:], KafkaPayload(data="x" * 2_000_000))
        )
    await sink.write_batch(batch(KafkaPayload(data="20")))
    await sink.close()

    assert list(caught.value.failures) == [10, 21]
    assert all(isinstance(cause, SinkRejected) for cause in caught.value.failures.values())
    assert sorted(int(m.value() or b"") for m in read_all(kafka.bootstrap, narrow_topic)) == list(range(21))


async def test_what_cannot_be_produced_fails_alone(kafka: Kafka, make_topic: MakeTopic) -> None:
    """Wrong keys, headers and partitions are the payload's own fault."""
    topic = make_topic(1)
    sink = await connected(kafka.bootstrap, topic)
    wrong: list[Any] = [
        KafkaPayload(data=1, key=7),  # type: ignore[arg-type]  # wrong on purpose
        KafkaPayload(data=1, headers=7),  # type: ignore[arg-type]  # wrong on purpose
        KafkaPayload(data=1, headers=[("a", 7)]),  # type: ignore[list-item]  # wrong on purpose
        KafkaPayload(data=1, partition=99),
        KafkaPayload(data=1, partition="0"),  # type: ignore[arg-type]  # wrong on purpose
        KafkaPayload(data=1, key="\ud800"),
    ]
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch(batch(KafkaPayload(data="a"), *wrong, KafkaPayload(data="b")))
    await sink.close()

    assert list(caught.value.failures) == [1, 2, 3, 4, 5, 6]
    assert all(isinstance(cause, SinkRejected) for cause in caught.value.failures.values())
    assert [message.value() for message in read_all(kafka.bootstrap, topic)] == [b"a", b"b"]


async def test_a_missing_topic_is_told_with_the_command_that_makes_it(kafka: Kafka) -> None:
    """Exit code 2: waiting would not help."""
    with pytest.raises(StartupError) as caught:
        await connected(kafka.bootstrap, "no-such-topic")

    assert caught.value.exit_code == 2
    (problem,) = caught.value.problems
    assert problem.where == "sinks.kafka.results.topic"
    assert "'no-such-topic' does not exist" in problem.what
    assert "drakkar-flow topics create" in problem.remedy


async def test_a_black_hole_is_noticed_without_blocking_the_loop(kafka: Kafka) -> None:
    """A broker that accepts and never answers ends connect in time; the loop goes on meanwhile."""
    loop = asyncio.get_running_loop()
    turns = 0

    async def spin() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.sleep(0.01)

    with TcpProxy(int(kafka.bootstrap.rpartition(":")[2])) as proxy:
        proxy.black_hole()
        async with anyio.create_task_group() as group:
            group.start_soon(spin)
            began = loop.time()
            with pytest.raises(StartupError) as caught:
                await connected(f"127.0.0.1:{proxy.port}", "any", delivery_timeout_s=1)
            assert loop.time() - began < 5
            group.cancel_scope.cancel()

    assert turns > 20
    assert caught.value.exit_code == 1


async def test_close_writes_what_waits_and_ends_the_thread(kafka: Kafka, make_topic: MakeTopic) -> None:
    """A batch handed over before close is written; no thread is left."""
    topic = make_topic(1)
    sink = await connected(kafka.bootstrap, topic)
    async with anyio.create_task_group() as group:
        group.start_soon(sink.write_batch, batch(KafkaPayload(data="last")))
        await anyio.lowlevel.checkpoint()
        group.start_soon(sink.close)

    assert [message.value() for message in read_all(kafka.bootstrap, topic)] == [b"last"]
    assert not [each for each in threading.enumerate() if each.name == f"kafka-writer:{topic}"]


@pytest.mark.slow
async def test_the_sink_outlives_its_brokers(make_cluster: MakeCluster) -> None:
    """While the broker is down batches fail in time and may be tried again; when it is back they are written."""
    cluster = make_cluster(1)
    topic = unique("loss")
    create_topic(AdminClient({"bootstrap.servers": cluster.bootstrap}), topic, 1)
    sink = await connected(cluster.bootstrap, topic, delivery_timeout_s=2)
    await sink.write_batch(batch(KafkaPayload(data="before")))

    await anyio.to_thread.run_sync(cluster.kill_broker, 1)
    began = time.monotonic()
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch(batch(KafkaPayload(data="a"), KafkaPayload(data="b")))
    assert time.monotonic() - began < 15
    assert list(caught.value.failures) == [0, 1]
    assert not any(isinstance(cause, SinkRejected) for cause in caught.value.failures.values())

    await anyio.to_thread.run_sync(cluster.start_broker, 1)
    with anyio.fail_after(60):
        while True:
            try:
                await sink.write_batch(batch(KafkaPayload(data="after")))
                break
            except BatchFailed:
                continue
    await sink.close()

    values = [message.value() for message in read_all(cluster.bootstrap, topic, 2)]
    assert values[0] == b"before"
    assert values[-1] == b"after"


def record(**more: Any) -> Record:
    """A record of partition 1."""
    fields: dict[str, Any] = {"topic": "in", "partition": 1, "offset": 3, "value": b"v", "key": b"\xff"}
    return Record(**fields | more)


async def test_letters_of_failures_are_written(kafka: Kafka, make_topic: MakeTopic) -> None:
    """Records as they were, failed deliveries as JSON, all with their reasons."""
    topic = make_topic(1)
    queue = DeadLetterQueue(topic, kafka.bootstrap)
    await queue.connect()
    decode = Failure(kind=FailureKind.DECODE, stage="decode", error="bad", tokens=((record(), 1),))
    sink = Failure(
        kind=FailureKind.SINK,
        stage="sink.kafka.results",
        error="refused",
        tokens=((record(key=b"k"), 1),),
        payload=KafkaPayload(data={"a": 1}),
        sink_type="kafka",
        sink_name="results",
    )
    await queue.write([decode, sink])
    await queue.write([])
    await queue.close()

    first, second = read_all(kafka.bootstrap, topic)
    assert (first.key(), first.value()) == (b"\xff", b"v")
    assert ("__connect.errors.offset", b"3") in (first.headers() or [])
    assert second.key() == b"k"
    assert json.loads(json.loads(second.value() or b"")["original_payloads"][0])["data"] == {"a": 1}


async def test_letters_too_large_are_cut_and_say_so(kafka: Kafka, narrow_topic: str) -> None:
    """The fact arrives even where the value does not fit, and letters that fit stay whole."""
    queue = DeadLetterQueue(narrow_topic, kafka.bootstrap)
    await queue.connect()
    large = Failure(kind=FailureKind.DECODE, stage="s", error="e", tokens=((record(value=b"x" * 50_000), 1),))
    small = Failure(kind=FailureKind.DECODE, stage="s", error="e", tokens=((record(), 1),))
    await queue.write([large, small])
    await queue.close()

    letters = {message.value(): dict(message.headers() or []) for message in read_all(kafka.bootstrap, narrow_topic)}
    assert "drakkar.truncated" not in letters[b"v"]
    assert letters[b"" if b"" in letters else None]["drakkar.truncated"] == b"50000"


async def test_a_letter_that_cannot_be_written_is_named(kafka: Kafka, make_picky_topic: Any) -> None:
    """By the index of its failure, where not even what failed and where fits; the other letters are durable."""
    topic = make_picky_topic(max_message_bytes="420")
    queue = DeadLetterQueue(topic, kafka.bootstrap)
    await queue.connect()
    hopeless = Failure(kind=FailureKind.DECODE, stage="s" * 8192, error="e" * 8192, tokens=((record(), 1),))
    fine = Failure(kind=FailureKind.DECODE, stage="s", error="e", tokens=((record(), 1), (record(topic="other"), 1)))
    with pytest.raises(BatchFailed) as caught:
        await queue.write([fine, hopeless, fine])
    await queue.close()

    assert list(caught.value.failures) == [1]
    assert len(read_all(kafka.bootstrap, topic)) == 4


@pytest.fixture
def make_picky_topic(kafka: Kafka) -> Iterator[Any]:
    """Make a topic with settings of its own; it goes away after the test."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    names: list[str] = []

    def make(**config: str) -> str:
        name = unique("picky")
        settings = {key.replace("_", "."): value for key, value in config.items()}
        admin.create_topics([NewTopic(name, 1, config=settings)])[name].result(20)
        names.append(name)
        return name

    yield make
    delete_topics(admin, names)


@pytest.mark.parametrize("bad", [[0], [2], [59], [3, 4, 50]], ids=str)
async def test_f5_a_compacted_topic_refuses_the_message_without_a_key_only(
    kafka: Kafka, make_picky_topic: Any, bad: list[int]
) -> None:
    """The brokers refuse all that came with it; the others are there, once and in order."""
    topic = make_picky_topic(cleanup_policy="compact")
    sink = await connected(kafka.bootstrap, topic)
    payloads = [KafkaPayload(data=str(n), key=None if n in bad else str(n)) for n in range(60)]
    delivered = await deliver(sink, SPEC, payloads)
    await sink.close()
    assert [payload.data for payload in delivered.failed] == [str(n) for n in bad]
    assert {failure.exception_class for failure in delivered.failures} == {"drakkar_flow.errors.SinkRejected"}
    values = [int(message.value() or b"") for message in read_all(kafka.bootstrap, topic)]
    assert values == [n for n in range(60) if n not in bad]


@pytest.mark.parametrize("when_open", ["dlq", "wait"])
async def test_g6_a_timestamp_far_ahead_costs_its_message_only(
    kafka: Kafka, make_picky_topic: Any, when_open: str
) -> None:
    """INVALID_TIMESTAMP names nobody; keys of other batches in flight are not touched either."""
    topic = make_picky_topic(message_timestamp_after_max_ms="3600000")
    sink = await connected(kafka.bootstrap, topic)
    ahead = int((time.time() + 7200) * 1000)
    payloads = [KafkaPayload(data=str(n), timestamp=ahead if n == 17 else None) for n in range(30)]
    delivered = await deliver(sink, SPEC, payloads, when_open=when_open)
    await sink.close()
    assert delivered.failed == [payloads[17]]
    values = [int(message.value() or b"") for message in read_all(kafka.bootstrap, topic)]
    assert sorted(values) == [n for n in range(30) if n != 17]


async def test_f5_a_letter_is_refused_alone(kafka: Kafka, make_picky_topic: Any) -> None:
    """A compacted dead letter topic takes the letters that have a key."""
    queue = DeadLetterQueue(make_picky_topic(cleanup_policy="compact"), kafka.bootstrap)
    await queue.connect()
    failures = [
        Failure(
            kind=FailureKind.DECODE,
            stage="decode",
            error="bad",
            tokens=((Record(topic="in", partition=0, offset=n, key=None if n == 1 else b"k", value=b"v"), 1),),
        )
        for n in range(4)
    ]
    with pytest.raises(BatchFailed) as caught:
        await queue.write(failures)
    await queue.close()
    assert list(caught.value.failures) == [1]


async def test_n1_a_topic_that_is_deleted_is_told_from_a_bad_message(kafka: Kafka, make_topic: MakeTopic) -> None:
    """SinkMisconfigured: no other message would be taken either."""
    topic = make_topic(1)
    sink = await connected(kafka.bootstrap, topic, delivery_timeout_s=9)
    delete_topics(AdminClient({"bootstrap.servers": kafka.bootstrap}), [topic])
    failures: list[Failure] = []
    async with asyncio.timeout(40):
        while not failures:
            failures = (await deliver(sink, SPEC, [KafkaPayload(data="x")])).failures
    await sink.close()
    assert failures[0].exception_class == "drakkar_flow.errors.SinkMisconfigured"
    assert "create the topic" in failures[0].error


def unchecked(topic: str, brokers: str, properties: dict[str, str]) -> KafkaSinkConfig:
    """Settings with properties as the engine hands them over, which no file could hold."""
    return KafkaSinkConfig(topic=topic, brokers=brokers).model_copy(update={"client_config": properties})


async def test_n14_a_login_that_the_brokers_refuse_ends_the_start_at_once(kafka: Kafka, make_topic: MakeTopic) -> None:
    """Exit code 2, with the key and without the password; no waiting helps."""
    login = {"sasl.mechanism": "PLAIN", "sasl.username": "joe", "sasl.password": "PGPW"}
    properties = {"security.protocol": "SASL_PLAINTEXT", **login}
    sink = KafkaSink("results", unchecked(make_topic(1), kafka.bootstrap, properties))
    with pytest.raises(StartupError) as caught:
        await sink.connect()
    assert (caught.value.exit_code, caught.value.problems[0].where) == (2, "sinks.kafka.results.security")
    assert "PGPW" not in str(caught.value)


@pytest.mark.parametrize("properties", [{"sasl.pasword": "PGPW"}, {"ssl.key.pem": "PGPW", "security.protocol": "SSL"}])
async def test_g8_a_property_that_is_wrong_is_named_without_a_secret(
    kafka: Kafka, make_topic: MakeTopic, properties: dict[str, str]
) -> None:
    """Exit code 2."""
    settings = unchecked(make_topic(1), kafka.bootstrap, properties)
    with pytest.raises(StartupError) as caught:
        await KafkaSink("results", settings).connect()
    assert (caught.value.exit_code, caught.value.problems[0].where) == (2, "sinks.kafka.results.client_config")
    assert "PGPW" not in str(caught.value)
