"""Every commit of a group, as the brokers recorded it: none goes back, and none is ahead of the output."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, Message
from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from support.kafka_io import REQUEST_TIMEOUT_S, end_offsets
from support.names import unique

__all__ = ["Commit", "CommitLog"]

_TOPIC = "__consumer_offsets"
_OFFSET_COMMIT = (0, 1)  # versions of keys; others are of groups


_HAS_EPOCH, _FLEXIBLE = 3, 4  # versions of values: with the leader's epoch, and with compact texts


class Commit(NamedTuple):
    """One commit; `at_ms` is the brokers' time."""

    partition: int
    offset: int
    finished: OffsetRanges
    at_ms: int


class CommitLog:
    """The commits of a group for a topic since this was made.

    Args:
        bootstrap: the value of `bootstrap.servers`.
        group: whose commits.
        source: the topic they are of.
    """

    def __init__(self, bootstrap: str, group: str, source: str) -> None:
        self._bootstrap, self._group, self._source = bootstrap, group, source
        self._begun = _ends(bootstrap)

    def read(self) -> list[Commit]:
        """All commits, in order by partition."""
        settings = {"bootstrap.servers": self._bootstrap, "group.id": unique("commits"), "enable.auto.commit": False}
        reader = Consumer({**settings, "enable.partition.eof": True})
        try:
            unread = dict(_ends(self._bootstrap))
            reader.assign([KafkaPartition(_TOPIC, at, self._begun.get(at, 0)) for at in unread])
            found: list[Commit] = []
            while unread:
                for message in reader.consume(1000, REQUEST_TIMEOUT_S):
                    if (error := message.error()) is None:
                        found += self._commit_of(message)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        unread.pop(message.partition() or 0, None)
            return found
        finally:
            reader.close()

    def check(
        self, delivered: Iterable[Message], assigned_ms: Mapping[int, Iterable[int]], *, connections_broke: bool = False
    ) -> int:
        """Check each commit; gives how many there were.

        `delivered` is the output: its keys are labels (`topic:partition:offset`) of source records, and its timestamps
        are the brokers'. `assigned_ms` has by partition when it was assigned to a member.

        A commit that goes back behind an assignment is that of a member that has lost the partition, unless
        `connections_broke`. Without an assignment it is its owner's: librdkafka sends an interrupted commit again, also
        behind a later one. The later one must then be repeated.
        """
        first_ms: dict[tuple[int, int], int] = {}
        for message in delivered:
            _topic, *place = (message.key() or b"").decode().rsplit(":", 2)
            first_ms.setdefault((int(place[0]), int(place[1])), message.timestamp()[1])
        commits = self.read()
        furthest: dict[int, Commit] = {}
        behind: dict[int, Commit] = {}
        for commit in commits:
            partition, offset, finished, at_ms = commit
            last = furthest.get(partition, Commit(partition, 0, OffsetRanges(), 0))
            for at in (*range(last.offset, offset), *_offsets(finished)):
                assert (partition, at) in first_ms, f"{partition}:{at} was committed, but never delivered"
                assert first_ms[partition, at] <= at_ms, f"{partition}:{at} was committed before its delivery"
            forgotten = [at for at in _offsets(last.finished) if at >= offset and at not in finished]
            if offset < last.offset or forgotten:
                behind[partition] = commit
                what = f"partition {partition} went back to {offset} from {last.offset}, without {forgotten[:5]}"
                moved = any(last.at_ms <= at <= at_ms for at in assigned_ms.get(partition, ()))
                assert connections_broke or not moved, what
            else:
                furthest[partition] = commit
                behind.pop(partition, None)
        assert not behind, f"the last commits are behind earlier ones: {behind}"
        return len(commits)

    def _commit_of(self, message: Message) -> list[Commit]:
        key, value = message.key(), message.value()
        if not isinstance(key, bytes) or not isinstance(value, bytes):  # a tombstone: offsets were deleted
            return []
        version, rest = struct.unpack_from(">h", key)[0], key[2:]
        if version not in _OFFSET_COMMIT:
            return []
        group, rest = _text(rest)
        topic, rest = _text(rest)
        if (group, topic) != (self._group, self._source):
            return []
        (partition,) = struct.unpack_from(">i", rest)
        form, offset = struct.unpack_from(">hq", value)
        metadata, rest = (_compact_text if form >= _FLEXIBLE else _text)(value[10 + 4 * (form >= _HAS_EPOCH) :])
        (at_ms,) = struct.unpack_from(">q", rest)
        return [Commit(partition, offset, OffsetRanges.decode(metadata.rstrip("\0"), offset), at_ms)]


def _ends(bootstrap: str) -> dict[int, int]:
    return end_offsets(bootstrap, _TOPIC)


def _offsets(ranges: OffsetRanges) -> list[int]:
    return [at for start, stop in ranges for at in range(start, stop)]


def _text(data: bytes) -> tuple[str, bytes]:
    (size,) = struct.unpack_from(">h", data)
    return data[2 : 2 + size].decode(), data[2 + size :]


def _compact_text(data: bytes) -> tuple[str, bytes]:
    size = at = 0
    while True:
        size |= (data[at] & 0x7F) << 7 * at
        at += 1
        if data[at - 1] < 0x80:
            break
    return data[at : at + size - 1].decode(), data[at + size - 1 :]
