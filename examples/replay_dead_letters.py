"""Sends the records of dead letters to the topics they came from, once more.

    python examples/replay_dead_letters.py BROKERS DEAD_LETTER_TOPIC [--only TEXT] [--dry-run]

Key, value and headers are the record's own. For a letter that holds something else (a payload that could not be
delivered) or was cut, the record is read again from the topic it came from; one that is gone there is named, and the
exit code is 1. `--only` takes the letters whose headers contain a text: an error, a stage, a task's id. What was
replayed is remembered by the consumer group `DEAD_LETTER_TOPIC-replay`, but with `--dry-run` or `--only`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition

ORIGIN = "__connect.errors."
SECONDS = 10.0
PORTION = 10_000


def letters(consumer: Consumer, topic: str) -> Iterator[tuple[TopicPartition, Message]]:
    """What is in the topic now and was not replayed before, each with the place behind it."""
    numbers = consumer.list_topics(topic, SECONDS).topics[topic].partitions
    for place in consumer.committed([TopicPartition(topic, number) for number in numbers], SECONDS):
        first, end = consumer.get_watermark_offsets(place, SECONDS)
        at = max(place.offset, first)
        consumer.assign([TopicPartition(topic, place.partition, at)])
        while at < end and (message := consumer.poll(SECONDS)) is not None:
            if error := message.error():
                raise RuntimeError(error.str())
            at = (message.offset() or 0) + 1
            yield TopicPartition(topic, place.partition, at), message


def headers_of(message: Message) -> dict[str, bytes]:
    """Headers by name; where one is there twice, the last."""
    found: Any = message.headers() or []
    return {name: value or b"" for name, value in found}


def original(consumer: Consumer, letter: Message, headers: dict[str, bytes]) -> dict[str, Any]:
    """What to produce: the record that a letter is about, to the topic it came from."""
    origin = TopicPartition(headers[f"{ORIGIN}topic"].decode(), int(headers[f"{ORIGIN}partition"]))
    origin.offset = int(headers[f"{ORIGIN}offset"])
    record: Any = letter
    if headers[f"{ORIGIN}stage"].startswith(b"sink-") or "drakkar.truncated" in headers:
        consumer.assign([origin])
        record = consumer.poll(SECONDS)
        if record is None or record.error() or record.offset() != origin.offset:
            raise LookupError(f"{origin.topic}:{origin.partition}:{origin.offset} is not there any more")
    own = [each for each in record.headers() or [] if not each[0].startswith((ORIGIN, "drakkar."))]
    return {"topic": origin.topic, "key": record.key(), "value": record.value(), "headers": own}


def replay(brokers: str, topic: str, *, only: str, dry_run: bool) -> list[str]:
    """Replay, saying what; returns what went wrong."""
    settings = {"bootstrap.servers": brokers, "group.id": f"{topic}-replay", "enable.auto.commit": False}
    reader = Consumer({**settings, "auto.offset.reset": "earliest"})
    sources = Consumer({**settings, "auto.offset.reset": "error"})
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True})
    failed: list[str] = []
    done: dict[int, TopicPartition] = {}
    for behind, letter in letters(reader, topic):
        headers = headers_of(letter)
        done[behind.partition] = behind
        if only.encode() not in b"\n".join(headers.values()):
            continue
        print(*(headers[ORIGIN + name].decode() for name in ("topic", "partition", "offset", "exception.message")))
        try:
            record = original(sources, letter, headers)
        except LookupError as exc:
            failed.append(str(exc))
        else:
            if not dry_run:
                producer.produce(**record, on_delivery=lambda error, _: failed.extend([error.str()] if error else []))
                if len(producer) > PORTION:
                    producer.flush(6 * SECONDS)
    if producer.flush(6 * SECONDS):
        failed.append("some records were not acknowledged")
    if done and not (failed or dry_run or only):
        reader.commit(offsets=list(done.values()), asynchronous=False)
    reader.close()
    sources.close()
    return failed


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("brokers")
    parser.add_argument("topic")
    parser.add_argument("--only", default="")
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args()
    failed = replay(given.brokers, given.topic, only=given.only, dry_run=given.dry_run)
    print(*failed, sep="\n", file=sys.stderr, end="\n" if failed else "")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
