"""Watching a group's commits while a test breaks things: never backwards, never ahead of the output."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple, Self

from confluent_kafka import Consumer, Message
from confluent_kafka import TopicPartition as KafkaPartition

from support.kafka_io import committed_as_told_to, group_asker
from support.names import unique

__all__ = ["CommitWatch"]

_PAUSE_S = 0.1


class _Sample(NamedTuple):
    committed: dict[int, int]
    output_end: int  # asked after the commits: what they cover must be before it


class CommitWatch:
    """Samples the committed offsets and then the end of the output, from a thread, until its block ends.

    Args:
        bootstrap: the value of `bootstrap.servers`.
        group: whose commits.
        source: the topic they are of.
        out: a topic of one partition, whose keys are the labels (`topic:partition:offset`) of source records.
    """

    def __init__(self, bootstrap: str, group: str, source: str, out: str) -> None:
        self._asker = group_asker(bootstrap, group)
        self._reader = Consumer({"bootstrap.servers": bootstrap, "group.id": unique("watch")})
        self._source, self._out = source, KafkaPartition(out, 0)
        self._samples: list[_Sample] = []
        self._error: Exception | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commit-watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._reader.close()
        self._asker.close()

    def _run(self) -> None:
        try:
            while not self._over.wait(_PAUSE_S):
                offsets = committed_as_told_to(self._asker, self._source)
                self._samples.append(_Sample(offsets, self._reader.get_watermark_offsets(self._out, timeout=10)[1]))
        except Exception as exc:  # told by `check`, on the test's thread
            self._error = exc

    def check(self, delivered: Iterable[Message]) -> int:
        """Check every sample against the output as it is now; gives how many samples there were."""
        assert self._error is None, f"watching ended early: {self._error}"
        covered = _covered(delivered)
        before: dict[int, int] = {}
        for offsets, output_end in self._samples:
            for partition, offset in offsets.items():
                assert offset >= before.get(partition, 0), f"partition {partition} went back to {offset} from {before}"
                needed = covered.get(partition, [])[:offset]
                assert len(needed) == offset, f"{partition}:{offset} was committed, but not all before it was delivered"
                assert not needed or needed[-1] < output_end, f"{partition}:{offset} was committed before its delivery"
            before = offsets
        return len(self._samples)


def _covered(delivered: Iterable[Message]) -> dict[int, list[int]]:
    """By source partition, for each offset: where in the output it and everything before it is found.

    The list ends before the first offset that was never delivered.
    """
    first: dict[int, dict[int, int]] = {}
    for message in delivered:
        _topic, partition, offset = (message.key() or b"").decode().rsplit(":", 2)
        first.setdefault(int(partition), {}).setdefault(int(offset), message.offset() or 0)
    covered: dict[int, list[int]] = {}
    for number, places in first.items():
        so_far = covered[number] = []
        while (place := places.get(len(so_far))) is not None:
            so_far.append(max(place, so_far[-1] if so_far else 0))
    return covered
