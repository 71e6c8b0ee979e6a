"""The peer: a loop that consumes, validates, computes, serialises, produces and commits, and nothing else."""

from __future__ import annotations

import uuid

from confluent_kafka import Consumer, Producer

from benchmarks.workers.model import BOOTSTRAP, OUTPUT, SOURCE, TOTAL, Reading, judge


def main() -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": BOOTSTRAP,
            "group.id": f"bare-{uuid.uuid4().hex}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer(
        {"bootstrap.servers": BOOTSTRAP, "enable.idempotence": True, "queue.buffering.max.messages": 1_000_000}
    )
    consumer.subscribe([SOURCE])
    done = 0
    while done < TOTAL:
        messages = consumer.consume(1000, 0.1)
        for message in messages:
            reading = Reading.model_validate_json(message.value() or b"")
            producer.produce(OUTPUT, judge(reading).model_dump_json(), message.key())
        producer.poll(0)
        done += len(messages)
        if messages:
            consumer.commit(asynchronous=True)
    producer.flush()
    consumer.close()


if __name__ == "__main__":
    main()
