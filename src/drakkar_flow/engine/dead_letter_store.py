"""Store of dead letters: reads a dead letter topic, and keeps the replayed ones in the offsets of a consumer group."""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow.engine.dead_letters import DlqError, Place, StoredDeadLetter
from drakkar_flow.kernel.offset_ranges import OffsetRanges

__all__ = ["DeadLetterStore", "RecordReader", "one_line", "quiet"]

_ASK_S = 10.0
_POLL_S = 1.0
_SILENCE_S = 30.0
_METADATA_BYTES = 4096
_NEAR = 500  # gaps up to this many offsets are read instead of skipped by a seek

_silent = logging.getLogger("drakkar_flow.dlq.librdkafka")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


def quiet(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return properties of a client that reports errors only by exceptions."""
    return {**properties, "logger": _silent, "error_cb": lambda _error: None}


class DeadLetterStore:
    """One dead letter topic; a context manager. The group `TOPIC-replay` keeps the replayed dead letters.

    All dead letters below the group's committed offset of a partition are replayed; the commit metadata has the ranges
    of replayed ones beyond it.
    """

    def __init__(self, properties: Mapping[str, Any], topic: str) -> None:
        self.topic = topic
        self._brokers = properties.get("bootstrap.servers", "")
        mine = {"group.id": f"{topic}-replay", "enable.auto.commit": False, "enable.partition.eof": True}
        try:
            self._consumer = Consumer(quiet({**properties, **mine, "auto.offset.reset": "earliest"}))
        except KafkaException as exc:
            raise DlqError(f"invalid Kafka settings: {one_line(exc)}") from exc
        self._done: dict[int, tuple[int, OffsetRanges]] = {}
        self._offsets: dict[int, list[int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def read(self) -> list[StoredDeadLetter]:
        """Read all dead letters up to the current end of the topic.

        Raises:
            DlqError: the brokers do not answer, or the topic is missing.
        """
        try:
            return [self._marked(letter) for letter in self._read(self._partitions())]
        except KafkaException as exc:
            raise DlqError(f"topic {self.topic!r} can't be read: {one_line(exc)}") from exc

    def mark(self, letters: Iterable[StoredDeadLetter]) -> None:
        """Mark dead letters as replayed.

        Raises:
            DlqError: the marks could not be committed.
        """
        touched = set()
        for letter in letters:
            partition, offset = letter.place.partition, letter.place.offset
            known = self._offsets[partition]
            index = bisect_left(known, offset)
            # Between two dead letters there are only transaction markers and compacted records.
            first = known[index - 1] + 1 if index else min(self._done[partition][0], offset)
            self._done[partition][1].add(first, offset + 1)
            touched.add(partition)
        commits = []
        for partition in touched:
            base, ranges = self._done[partition]
            base = ranges.end_of(base)
            self._done[partition] = (base, ranges)
            text = ranges.encode(base, _METADATA_BYTES)
            if ranges.stop > base and OffsetRanges.decode(text, base).stop < ranges.stop:
                raise DlqError("too many gaps between the replayed dead letters; replay all dead letters before them")
            commits.append(KafkaPartition(self.topic, partition, base, text))
        if commits:
            try:
                self._consumer.commit(offsets=commits, asynchronous=False)
            except KafkaException as exc:
                raise DlqError(f"the replayed dead letters could not be committed: {one_line(exc)}") from exc

    def _partitions(self) -> list[KafkaPartition]:
        try:
            known = self._consumer.list_topics(timeout=_ASK_S).topics
        except KafkaException as exc:
            remedy = "start the brokers, or fix kafka.brokers"
            raise DlqError(f"no broker answers at {self._brokers}: {one_line(exc)}; {remedy}") from exc
        if self.topic not in known:
            raise DlqError(f"topic {self.topic!r} does not exist at {self._brokers}; set dlq.topic, or --topic")
        asked = [KafkaPartition(self.topic, number) for number in sorted(known[self.topic].partitions)]
        for place in self._consumer.committed(asked, _ASK_S):
            base = max(place.offset, 0)
            ranges = OffsetRanges.decode(place.metadata or "", base) if place.offset >= 0 else OffsetRanges()
            ranges.add(0, base)
            self._done[place.partition] = (base, ranges)
            self._offsets[place.partition] = []
        return asked

    def _read(self, partitions: list[KafkaPartition]) -> Iterator[StoredDeadLetter]:
        left: dict[int, int] = {}
        for place in partitions:
            place.offset, end = self._consumer.get_watermark_offsets(place, _ASK_S)
            if place.offset < end:
                left[place.partition] = end
        self._consumer.assign([place for place in partitions if place.partition in left])
        heard = time.monotonic()
        while left:
            message = self._consumer.poll(_POLL_S)
            if message is not None:
                heard = time.monotonic()
                if (letter := self._take(message, left)) is not None:
                    yield letter
            elif time.monotonic() - heard > _SILENCE_S:
                raise DlqError(f"topic {self.topic!r}: no answer for {_SILENCE_S:g} s; check the brokers")

    def _take(self, message: Message, left: dict[int, int]) -> StoredDeadLetter | None:
        """Return the dead letter of a message; remove partitions from `left` that were read to their end."""
        partition, offset = message.partition() or 0, message.offset() or 0
        if (error := message.error()) is not None:
            if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name in this library
                raise KafkaException(error)
            left.pop(partition, None)
            return None
        end = left.get(partition, 0)
        if offset + 1 >= end:
            left.pop(partition, None)
        if offset >= end:
            return None
        self._offsets[partition].append(offset)
        return _dead_letter_of(message)

    def _marked(self, letter: StoredDeadLetter) -> StoredDeadLetter:
        _, ranges = self._done[letter.place.partition]
        return replace(letter, replayed=letter.place.offset in ranges)


class RecordReader:
    """Reads single records by their place."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        mine = {"group.id": "drakkar-flow-dlq", "enable.auto.commit": False, "enable.partition.eof": True}
        self._consumer = Consumer(quiet({**properties, **mine, "auto.offset.reset": "error"}))
        self._next: Place | None = None

    def topics(self) -> dict[str, Any]:
        """Return the existing topics with the metadata of their partitions."""
        try:
            found = self._consumer.list_topics(timeout=_ASK_S).topics
        except KafkaException as exc:
            raise DlqError(f"no broker answers: {one_line(exc)}") from exc
        return {name: topic.partitions for name, topic in found.items()}

    def read(self, place: Place) -> Message | None:
        """Return the record at a place; None if it no longer exists."""
        following = self._next
        near = following is not None and following[:2] == place[:2] and 0 <= place.offset - following.offset < _NEAR
        if not near:
            self._consumer.assign([KafkaPartition(*place)])
        deadline = time.monotonic() + _SILENCE_S
        while time.monotonic() < deadline:
            message = self._consumer.poll(_POLL_S)
            if message is None:
                continue
            at = message.offset() or 0
            if message.error() is not None or at > place.offset:
                self._next = None
                return None
            self._next = place._replace(offset=at + 1)
            if at == place.offset:
                return message
        self._next = None
        return None

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


def _dead_letter_of(message: Message) -> StoredDeadLetter:
    headers: Any = message.headers() or []
    place = Place(message.topic() or "", message.partition() or 0, message.offset() or 0)
    key: Any = message.key()
    value: Any = message.value()
    return StoredDeadLetter(place, message.timestamp()[1], key, value, list(headers))


def one_line(error: Exception) -> str:
    """Return the text of a Kafka error on one line."""
    cause = error.args[0] if error.args else error
    text = cause.str() if isinstance(cause, KafkaError) else str(cause)
    return " ".join(text.split())
