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

from confluent_kafka import Consumer, Message, Producer, TopicPartition

ORIGIN = "__connect.errors."
SECONDS = 10.0

Headers = list[tuple[str, bytes]]


def letters(consumer: Consumer, topic: str) -> Iterator[Message]:
    """What is in the topic now and was not replayed before."""
    partitions = [
        TopicPartition(topic, number) for number in consumer.list_topics(topic, SECONDS).topics[topic].partitions
    ]
    for place in consumer.committed(partitions, SECONDS):
        first, end = consumer.get_watermark_offsets(place, SECONDS)
        at = max(place.offset, first)
        consumer.assign([TopicPartition(topic, place.partition, at)])
        while at < end and (message := consumer.poll(SECONDS)) is not None:
            if message.error():
                raise RuntimeError(message.error().str())
            at = message.offset() + 1
            yield message


def original(
    consumer: Consumer, letter: Message, headers: dict[str, bytes]
) -> tuple[bytes | None, bytes | None, Headers]:
    """Key, value and headers of the record that a letter is about."""
    if not headers[f"{ORIGIN}stage"].startswith(b"sink-") and "drakkar.truncated" not in headers:
        return letter.key(), letter.value(), own(letter)
    offset = int(headers[f"{ORIGIN}offset"])
    place = TopicPartition(headers[f"{ORIGIN}topic"].decode(), int(headers[f"{ORIGIN}partition"]), offset)
    consumer.assign([place])
    record = consumer.poll(SECONDS)
    if record is None or record.error() or record.offset() != offset:
        raise LookupError(f"{place.topic}:{place.partition}:{offset} is not there any more")
    return record.key(), record.value(), own(record)


def own(message: Message) -> Headers:
    """The headers that the record had before it became a letter."""
    return [each for each in message.headers() or [] if not each[0].startswith((ORIGIN, "drakkar."))]


def main() -> int:
    """Replay, and say what was done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("brokers")
    parser.add_argument("topic")
    parser.add_argument("--only", default="")
    parser.add_argument("--dry-run", action="store_true")
    wanted = parser.parse_args()
    settings = {"bootstrap.servers": wanted.brokers, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    reader = Consumer({**settings, "group.id": f"{wanted.topic}-replay"})
    sources = Consumer({**settings, "group.id": f"{wanted.topic}-replay", "auto.offset.reset": "error"})
    producer = Producer({"bootstrap.servers": wanted.brokers, "enable.idempotence": True})
    failed: list[str] = []
    read: dict[int, TopicPartition] = {}
    for letter in letters(reader, wanted.topic):
        headers = dict(letter.headers() or [])
        read[letter.partition()] = TopicPartition(wanted.topic, letter.partition(), letter.offset() + 1)
        if wanted.only.encode() not in b"\n".join(headers.values()):
            continue
        place = b":".join(headers[ORIGIN + name] for name in ("topic", "partition", "offset")).decode()
        print(place, headers[f"{ORIGIN}exception.message"].decode(), sep=": ")
        try:
            key, value, kept = original(sources, letter, headers)
        except LookupError as exc:
            failed.append(str(exc))
            continue
        if not wanted.dry_run:
            told = lambda error, _: error and failed.append(error.str())  # noqa: E731
            producer.produce(headers[f"{ORIGIN}topic"].decode(), value, key, headers=kept, on_delivery=told)
    if producer.flush(6 * SECONDS):
        failed.append("some records were not acknowledged")
    if read and not failed and not wanted.dry_run and not wanted.only:
        reader.commit(offsets=list(read.values()), asynchronous=False)
    for consumer in (reader, sources):
        consumer.close()
    print(*failed, sep="\n", file=sys.stderr, end="\n" if failed else "")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
