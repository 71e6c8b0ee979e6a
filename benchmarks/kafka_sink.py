"""What the Kafka sink costs over a bare produce loop, both in the same run."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from functools import partial

import uvloop
from confluent_kafka import Producer
from pydantic import BaseModel

from benchmarks.bench import bootstrap, make_topic
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.sinks.kafka.payload import KafkaPayload
from drakkar_flow.sinks.kafka.settings import KafkaSinkConfig
from drakkar_flow.sinks.kafka.sink import MAX_BATCH, MAX_IN_FLIGHT, KafkaSink

MESSAGES = 100_000
ROUNDS = 5


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


def measure() -> dict[str, object]:
    """Let the two take turns; every number is the median of the rounds."""
    topic = make_topic("sink")
    models = [Hit(id=n, path=f"/data/part-{n:09}.json", score=n / 7) for n in range(MESSAGES)]
    batches = batches_of(models)
    rounds = [
        (
            measured(partial(bare_loop, bootstrap(), topic, models)),
            measured(partial(sink, bootstrap(), topic, batches)),
        )
        for _ in range(ROUNDS)
    ]
    bare, ours = ([statistics.median(each[side][kind] for each in rounds) for kind in (0, 1)] for side in (0, 1))
    return {
        "messages": MESSAGES,
        "bare_cpu_s": round(bare[0], 3),
        "sink_cpu_s": round(ours[0], 3),
        "cpu_ratio": round(statistics.median(each[1][0] / each[0][0] for each in rounds), 2),
        "cpu_ratio_limit": 1.3,
        "bare_messages_per_s": round(MESSAGES / bare[1]),
        "sink_messages_per_s": round(MESSAGES / ours[1]),
    }
