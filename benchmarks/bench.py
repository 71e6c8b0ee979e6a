"""What all benches share: topics on the real Kafka, processes under test, and how a rate is taken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

PARTITIONS = 4
_LOOK_S = 0.02


def bootstrap() -> str:
    """The brokers to measure with; `make bench` starts them."""
    found = os.environ.get("DRAKKAR_TEST_KAFKA")
    if not found:
        raise SystemExit("no Kafka: run this with `make bench`, or set DRAKKAR_TEST_KAFKA")
    return found


def make_topic(name: str, partitions: int = PARTITIONS) -> str:
    """Make a topic with a unique name."""
    admin = AdminClient({"bootstrap.servers": bootstrap(), "log_level": 3})
    topic = f"bench-{name}-{uuid.uuid4().hex[:8]}"
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result()
    return topic


def fill(topic: str, total: int, keys: int | None = None) -> None:
    """Write `total` records of about 100 bytes, each with a key of its own or with `keys` keys in turn."""
    producer = Producer({"bootstrap.servers": bootstrap(), "linger.ms": 20, "queue.buffering.max.messages": 2_000_000})
    for number in range(total):
        value = b'{"id":%d,"name":"abcdefghijklmnopqrstuvwxyz","score":1.25,"tags":["a","b"],"sent_at":0.0}' % number
        producer.produce(topic, value, b"%d" % (number % (keys or total)))
        if number % 10_000 == 0:
            producer.poll(0)
    producer.flush()


@dataclass
class Watch:
    """What was seen of an output topic: messages per second between 10 % and 90 %, and when the first came."""

    rate: float
    first_s: float
    cpu_us: float
    """CPU of the process under test per message, in microseconds, start-up included."""
    peak_mib: float


@contextmanager
def process(
    module: str,
    source: str,
    output: str,
    total: int,
    *,
    python: str = sys.executable,
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m module` as the process under test; it is stopped by SIGTERM."""
    variables = {"BENCH_KAFKA": bootstrap(), "BENCH_SOURCE": source, "BENCH_OUTPUT": output, "BENCH_TOTAL": str(total)}
    child = subprocess.Popen(
        [python, "-m", module], env={**os.environ, **variables, **(env or {})}, stderr=subprocess.DEVNULL
    )
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def watch(
    module: str,
    source: str,
    total: int,
    *,
    timeout_s: float = 300,
    python: str = sys.executable,
    env: Mapping[str, str] | None = None,
) -> Watch:
    """Run a process until its output topic has `total` messages."""
    output = make_topic("out")
    counter = Counter(output)
    started = time.perf_counter()
    with process(module, source, output, total, python=python, env=env) as child:
        seen = psutil.Process(child.pid)
        marks = [(started, 0)]
        peak = 0
        cpu = 0.0
        while marks[-1][1] < total:
            time.sleep(_LOOK_S)
            marks.append((time.perf_counter(), counter.count()))
            try:
                with seen.oneshot():
                    peak = max(peak, seen.memory_info().rss)
                    cpu = sum(seen.cpu_times()[:2])
            except psutil.Error:
                pass  # it ended by itself
            if marks[-1][0] - started > timeout_s:
                raise SystemExit(f"{module}: {marks[-1][1]} of {total} messages after {timeout_s:g} s")
    counter.close()
    low = next(mark for mark in marks if mark[1] >= total * 0.1)
    high = next(mark for mark in marks if mark[1] >= total * 0.9)
    first = next(mark for mark in marks if mark[1] > 0)
    rate = (high[1] - low[1]) / max(1e-9, high[0] - low[0])
    return Watch(rate, first[0] - started, cpu / total * 1e6, peak / 1024 / 1024)


class Counter:
    """Counts the messages of a topic from outside, by its end offsets; those of open transactions too."""

    def __init__(self, topic: str, partitions: int = PARTITIONS) -> None:
        settings = {"group.id": f"count-{uuid.uuid4().hex}", "isolation.level": "read_uncommitted"}
        self._consumer = Consumer({"bootstrap.servers": bootstrap(), **settings})
        self._partitions = [KafkaPartition(topic, number) for number in range(partitions)]

    def count(self) -> int:
        """How many messages there are now."""
        try:
            return sum(self._consumer.get_watermark_offsets(item, timeout=10)[1] for item in self._partitions)
        except KafkaException:  # the topic is so new that not every broker knows it
            return 0

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()


def median(values: list[float]) -> float:
    """The middle one."""
    return sorted(values)[len(values) // 2]
