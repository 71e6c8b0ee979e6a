"""Shared by the demo and the lessons: an in-process broker, and runs that end when all records are done."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer
from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow import StreamingRunner
from drakkar_flow.observe.metrics.statistics import StatisticsSnapshot

__all__ = ["Counts", "embedded_broker", "play", "read", "run_until", "send"]

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


def send(brokers: str, topic: str, values: Iterable[bytes], keys: Iterable[str] = ()) -> int:
    """Write values, with keys if given, and return how many, when the broker has acknowledged all of them."""
    producer = Producer({"bootstrap.servers": brokers, "sticky.partitioning.linger.ms": 0, "log_level": 0})
    count = 0
    for value, key in zip_longest(values, keys):
        producer.produce(topic, value, key)
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


class Counts:
    """Follows a topic of counted messages: `of` has the greatest `number` of each key.

    Messages may come twice and in another order, so the last number of a key need not be its count.
    """

    def __init__(self, brokers: str, topic: str) -> None:
        self.of: dict[str, int] = {}
        self.messages = 0
        self._topic = topic
        self._assigned = False
        self._consumer = Consumer({"bootstrap.servers": brokers, "group.id": "follower", "log_level": 0})

    def look(self) -> None:
        """Read new messages; the topic need not exist yet."""
        if not self._assigned:
            found = self._consumer.list_topics(self._topic, _TIMEOUT_S).topics[self._topic].partitions
            self._consumer.assign([KafkaPartition(self._topic, number, OFFSET_BEGINNING) for number in found])
            self._assigned = bool(found)
        for message in self._consumer.consume(10_000, _LOOK_S):
            if message.error() is None:
                key, number = str(message.key() or b"", "utf-8"), json.loads(message.value() or b"")["number"]
                self.of[key] = max(number, self.of.get(key, 0))
                self.messages += 1

    @property
    def total(self) -> int:
        """Sum of all counts."""
        return sum(self.of.values())

    def until(self, total: int, process: subprocess.Popen[Any]) -> None:
        """Read until the counts have this sum.

        Raises:
            ChildProcessError: the process ended before.
        """
        while self.total < total:
            if process.poll() is not None:
                raise ChildProcessError(f"the worker ended with exit code {process.returncode}")
            self.look()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()


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
