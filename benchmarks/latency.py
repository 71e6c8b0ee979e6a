"""How long a record takes from produce to result at 500 records/s, and from process start to the first result."""

from __future__ import annotations

import json
import time
import uuid

from confluent_kafka import Consumer, Producer

from benchmarks.bench import bootstrap, make_topic, median, process

RATE = 500
SECONDS = 10
WARM_UP = 500
STARTS = 3


def steady(module: str) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    source, output = make_topic("in"), make_topic("out")
    producer = Producer({"bootstrap.servers": bootstrap(), "linger.ms": 0})
    with process(module, source, output, 0), consumer_of(output) as consumer:
        send(producer, source, 0)
        if consumer.poll(30) is None:
            raise SystemExit(f"{module}: no result within 30 s")
        latencies: list[float] = []
        total = RATE * SECONDS + WARM_UP
        started = time.perf_counter()
        sent = 0
        while len(latencies) < total:
            due = min(total, int((time.perf_counter() - started) * RATE))
            while sent < due:
                sent += 1
                send(producer, source, sent)
            producer.poll(0)
            message = consumer.poll(0.001)
            if message is not None and message.error() is None:
                latencies.append(time.time() - json.loads(message.value() or b"{}")["sent_at"])
        latencies = sorted(latencies[WARM_UP:])
        return latencies[len(latencies) // 2] * 1000, latencies[int(len(latencies) * 0.99)] * 1000


def first_result(module: str) -> float:
    """Seconds from the start of the process to the first result of a record that waits."""
    source, output = make_topic("in"), make_topic("out")
    producer = Producer({"bootstrap.servers": bootstrap()})
    send(producer, source, 0)
    producer.flush()
    with consumer_of(output) as consumer:
        started = time.perf_counter()
        with process(module, source, output, 0):
            while (message := consumer.poll(30)) is None or message.error() is not None:
                if time.perf_counter() - started > 60:
                    raise SystemExit(f"{module}: no result within 60 s")
            return time.perf_counter() - started


class consumer_of:  # noqa: N801 - reads as a function in a `with`
    """A consumer that is assigned and reads from the beginning."""

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def __enter__(self) -> Consumer:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap(),
                "group.id": f"latency-{uuid.uuid4().hex}",
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 500,
            }
        )
        self._consumer.subscribe([self._topic])
        self._consumer.poll(3)
        return self._consumer

    def __exit__(self, *_: object) -> None:
        self._consumer.close()


def send(producer: Producer, topic: str, number: int) -> None:
    value = {"id": number, "name": "abcdefghijklmnopqrstuvwxyz", "score": 1.25, "tags": ["a"], "sent_at": time.time()}
    producer.produce(topic, json.dumps(value), b"%d" % number)


def measure() -> dict[str, object]:
    result: dict[str, object] = {"rate_per_s": RATE}
    for name, module in (("flow", "flow_style"), ("handler", "handler_style")):
        p50, p99 = steady(f"benchmarks.workers.{module}")
        result |= {f"{name}_p50_ms": round(p50, 1), f"{name}_p99_ms": round(p99, 1)}
    result |= {"p50_limit_ms": 4, "p99_limit_ms": 15}
    starts = [first_result("benchmarks.workers.handler_style") for _ in range(STARTS)]
    return result | {"first_result_s": round(median(starts), 2), "first_result_limit_s": 0.8}
