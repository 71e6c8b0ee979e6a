"""Shared by the demo and the lessons: an in-process broker, and runs that end when all records are done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer
from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow import StreamingRunner
from drakkar_flow.observe.metrics.statistics import StatisticsSnapshot

__all__ = ["embedded_broker", "play", "read", "run_until", "send"]

PARTITIONS = 4
"""Number of partitions that the embedded broker gives a new topic."""

_TIMEOUT_S = 20.0
_LOOK_S = 0.1


@contextmanager
def embedded_broker() -> Iterator[str]:
    """Run an in-process Kafka broker and yield its address; it keeps everything in memory.

    It is librdkafka's mock broker for tests: fit for experiments, not for production.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # a signal would end the broker's thread
    try:
        broker = Producer({"bootstrap.servers": "localhost", "test.mock.num.brokers": 1, "log_level": 0})
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    found = broker.list_topics(timeout=_TIMEOUT_S).brokers.values()
    yield ",".join(f"{each.host}:{each.port}" for each in found)


def send(brokers: str, topic: str, values: Iterable[bytes]) -> int:
    """Write values to a topic and return how many, when the broker has acknowledged all of them."""
    producer = Producer({"bootstrap.servers": brokers, "sticky.partitioning.linger.ms": 0, "log_level": 0})
    count = 0
    for value in values:
        producer.produce(topic, value)
        count += 1
    if left := producer.flush(_TIMEOUT_S):
        raise TimeoutError(f"{left} records for {topic} were not acknowledged within {_TIMEOUT_S:g} s")
    return count


def read(brokers: str, topic: str) -> list[Message]:
    """Everything that a topic holds now."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "reader", "log_level": 0})
    try:
        partitions = [
            KafkaPartition(topic, n) for n in consumer.list_topics(topic, _TIMEOUT_S).topics[topic].partitions
        ]
        left = sum(consumer.get_watermark_offsets(each, _TIMEOUT_S)[1] for each in partitions)
        consumer.assign([KafkaPartition(topic, each.partition, OFFSET_BEGINNING) for each in partitions])
        messages: list[Message] = []
        while len(messages) < left and (batch := consumer.consume(min(left - len(messages), 1000), _TIMEOUT_S)):
            messages += [message for message in batch if message.error() is None]
        return messages
    finally:
        consumer.close()


def run_until(
    runner: StreamingRunner, records: int, watch: Callable[[StatisticsSnapshot], None] = lambda _: None
) -> int:
    """Run until `wanted` records are finished, or a signal arrives; `watch` gets the statistics in the meantime."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_S):
            statistics = runner.statistics()
            watch(statistics)
            if statistics.totals.records_finished >= records:
                runner.shutdown()

    watcher = threading.Thread(target=look, name="watcher")
    watcher.start()
    try:
        return runner.run()
    finally:
        over.set()
        watcher.join()


def play(flow: Any, config: Mapping[str, Any], inputs: Iterable[bytes]) -> int:
    """Run a lesson's flow over `inputs` on the embedded broker and print the output, topic by topic."""
    with embedded_broker() as brokers:
        kafka = {**config["kafka"], "brokers": brokers}
        quiet = {"metrics": {"enabled": False}, "logging": {"level": "WARNING", "format": "console"}}
        runner = StreamingRunner.from_dict(flow, {**quiet, **config, "kafka": kafka})
        source = kafka["source_topic"]
        exit_code = run_until(runner, send(brokers, source, inputs))
        outputs = [settings["topic"] for settings in config["sinks"].get("kafka", {}).values()]
        for topic in [*outputs, f"{source}_dlq"]:
            for message in read(brokers, topic):
                print(f"{topic}: {(message.value() or b'').decode()}")
        return exit_code
