"""Letter store: reads a dead letter topic as it stands, and remembers in a consumer group what was replayed."""

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

from drakkar_flow.engine.dead_letters import DlqError, Place, StoredLetter
from drakkar_flow.kernel.offset_ranges import OffsetRanges

__all__ = ["LetterStore", "RecordReader", "one_line", "quiet"]

_ASK_S = 10.0
_POLL_S = 1.0
_SILENCE_S = 30.0
_METADATA_BYTES = 4096
_NEAR = 500  # offsets that are read over rather than sought

_silent = logging.getLogger("drakkar_flow.dlq.librdkafka")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


def quiet(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Properties of a client that reports errors by exceptions alone."""
    return {**properties, "logger": _silent, "error_cb": lambda _error: None}


class LetterStore:
    """One dead letter topic. Use it as a context; what was replayed is kept by the group `TOPIC-replay`.

    The group's committed offset says how far all letters of a partition were replayed, its metadata which ones
    beyond.
    """

    def __init__(self, properties: Mapping[str, Any], topic: str) -> None:
        self.topic = topic
        self._brokers = properties.get("bootstrap.servers", "")
        mine = {"group.id": f"{topic}-replay", "enable.auto.commit": False, "enable.partition.eof": True}
        try:
            self._consumer = Consumer(quiet({**properties, **mine, "auto.offset.reset": "earliest"}))
        except KafkaException as exc:
            raise DlqError(f"the Kafka settings are wrong: {one_line(exc)}") from exc
        self._done: dict[int, tuple[int, OffsetRanges]] = {}
        self._letters: dict[int, list[int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def read(self) -> list[StoredLetter]:
        """Read all letters that are there now.

        Raises:
            DlqError: the brokers don't answer, or the topic is missing.
        """
        try:
            return [self._marked(letter) for letter in self._read(self._partitions())]
        except KafkaException as exc:
            raise DlqError(f"topic {self.topic!r} can't be read: {one_line(exc)}") from exc

    def mark(self, letters: Iterable[StoredLetter]) -> None:
        """Remember that letters were replayed.

        Raises:
            DlqError: they could not be committed.
        """
        touched = set()
        for letter in letters:
            partition, offset = letter.place.partition, letter.place.offset
            known = self._letters[partition]
            index = bisect_left(known, offset)
            # Nothing stands between a letter and the one before it but markers of transactions and what was compacted.
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
                raise DlqError("what was replayed lies too far apart to be remembered; replay all letters before it")
            commits.append(KafkaPartition(self.topic, partition, base, text))
        if commits:
            try:
                self._consumer.commit(offsets=commits, asynchronous=False)
            except KafkaException as exc:
                raise DlqError(f"what was replayed could not be remembered: {one_line(exc)}") from exc

    def _partitions(self) -> list[KafkaPartition]:
        try:
            known = self._consumer.list_topics(timeout=_ASK_S).topics
        except KafkaException as exc:
            remedy = "start the brokers, or correct kafka.brokers"
            raise DlqError(f"no broker answers at {self._brokers}: {one_line(exc)}; {remedy}") from exc
        if self.topic not in known:
            raise DlqError(f"topic {self.topic!r} does not exist at {self._brokers}; set dlq.topic, or --topic")
        asked = [KafkaPartition(self.topic, number) for number in sorted(known[self.topic].partitions)]
        for place in self._consumer.committed(asked, _ASK_S):
            base = max(place.offset, 0)
            ranges = OffsetRanges.decode(place.metadata or "", base) if place.offset >= 0 else OffsetRanges()
            ranges.add(0, base)
            self._done[place.partition] = (base, ranges)
            self._letters[place.partition] = []
        return asked

    def _read(self, partitions: list[KafkaPartition]) -> Iterator[StoredLetter]:
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
                raise DlqError(f"topic {self.topic!r} gave nothing for {_SILENCE_S:g} s")

    def _take(self, message: Message, left: dict[int, int]) -> StoredLetter | None:
        """The letter that was read; takes partitions out of `left` that have been read to their end."""
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
        self._letters[partition].append(offset)
        return _letter_of(message)

    def _marked(self, letter: StoredLetter) -> StoredLetter:
        _, ranges = self._done[letter.place.partition]
        return replace(letter, replayed=letter.place.offset in ranges)


class RecordReader:
    """Reads single records where they stand."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        mine = {"group.id": "drakkar-flow-dlq", "enable.auto.commit": False, "enable.partition.eof": True}
        self._consumer = Consumer(quiet({**properties, **mine, "auto.offset.reset": "error"}))
        self._next: Place | None = None

    def topics(self) -> dict[str, Any]:
        """The topics there are, each with what is known of its partitions."""
        try:
            found = self._consumer.list_topics(timeout=_ASK_S).topics
        except KafkaException as exc:
            raise DlqError(f"no broker answers: {one_line(exc)}") from exc
        return {name: topic.partitions for name, topic in found.items()}

    def read(self, place: Place) -> Message | None:
        """The record at a place; None when it is not there any more."""
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
        """End the connection."""
        self._consumer.close()


def _letter_of(message: Message) -> StoredLetter:
    headers: Any = message.headers() or []
    place = Place(message.topic() or "", message.partition() or 0, message.offset() or 0)
    key: Any = message.key()
    value: Any = message.value()
    return StoredLetter(place, message.timestamp()[1], key, value, list(headers))


def one_line(error: Exception) -> str:
    """What a Kafka error says, on one line."""
    cause = error.args[0] if error.args else error
    text = cause.str() if isinstance(cause, KafkaError) else str(cause)
    return " ".join(text.split())
