"""What the Kafka sink costs over a bare produce loop: `python benchmarks/kafka_sink.py 127.0.0.1:9092`.

Prints one JSON object; `cpu_ratio` is the sink's CPU over the loop's, the median of the rounds, both in
the same run. The target is 1.3 at most.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
import uuid
from collections.abc import Callable
from functools import partial

import uvloop
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # public, but not in its __all__
from pydantic import BaseModel

from drakkar_flow.config.sinks import KafkaSinkConfig
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.model.payload import KafkaPayload
from drakkar_flow.sinks.kafka import MAX_BATCH, MAX_IN_FLIGHT, KafkaSink


class Hit(BaseModel):
    """A small message."""

    id: int
    path: str
    score: float


def bare_loop(brokers: str, topic: str, models: list[Hit]) -> None:
    """The least that a program can do: no acknowledgement by message, no errors by message."""
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 2})
    for model in models:
        while True:
            try:
                producer.produce(topic, model.model_dump_json())
                break
            except BufferError:
                producer.poll(0.01)
    assert producer.flush(60) == 0


def batches_of(models: list[Hit]) -> list[list[Delivery]]:
    """What the runtime hands to a sink."""
    return [
        [Delivery(KafkaPayload(data=model), ()) for model in models[start : start + MAX_BATCH]]
        for start in range(0, len(models), MAX_BATCH)
    ]


def sink(brokers: str, topic: str, batches: list[list[Delivery]]) -> None:
    """The sink with as many batches in flight as it allows: encode, produce, wait for every acknowledgement."""

    async def write() -> None:
        target = KafkaSink("bench", KafkaSinkConfig(topic=topic, brokers=brokers))
        await target.connect()
        room = asyncio.Semaphore(MAX_IN_FLIGHT)

        async def one(batch: list[Delivery]) -> None:
            async with room:
                await target.write_batch(batch)

        async with asyncio.TaskGroup() as group:
            for batch in batches:
                group.create_task(one(batch))
        await target.close()

    uvloop.run(write())


def measured(work: Callable[[], None]) -> list[float]:
    """CPU and wall seconds of one round."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return [time.process_time() - cpu, time.perf_counter() - wall]


def main() -> None:
    """Run the rounds by turns and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("brokers")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    admin = AdminClient({"bootstrap.servers": options.brokers})
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    admin.create_topics([NewTopic(topic, 4)])[topic].result(20)
    models = [Hit(id=n, path=f"/data/part-{n:09}.json", score=n / 7) for n in range(options.messages)]
    batches = batches_of(models)
    try:
        rounds = [
            (
                measured(partial(bare_loop, options.brokers, topic, models)),
                measured(partial(sink, options.brokers, topic, batches)),
            )
            for _ in range(options.rounds)
        ]
    finally:
        admin.delete_topics([topic])[topic].result(20)
    bare, ours = ([statistics.median(each[side][kind] for each in rounds) for kind in (0, 1)] for side in (0, 1))
    report = {
        "messages": options.messages,
        "bare_cpu_s": round(bare[0], 3),
        "sink_cpu_s": round(ours[0], 3),
        "cpu_ratio": round(statistics.median(each[1][0] / each[0][0] for each in rounds), 2),
        "bare_messages_per_s": round(options.messages / bare[1]),
        "sink_messages_per_s": round(options.messages / ours[1]),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
