"""Rows as readers see them: names resolved, times in microseconds of the wall clock since the epoch."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from drakkar_flow.model.record import TopicPartition
from drakkar_flow.recorder.fold.ticks import quantile

__all__ = [
    "Answer",
    "Cursor",
    "EventSeen",
    "FaultSeen",
    "OutputSeen",
    "RecordStory",
    "SpanSeen",
    "TaskSeen",
    "TickPoint",
    "TraceSeen",
]

T = TypeVar("T")

Cursor = tuple[int, str]
"""Key and file of the last row of a page."""


class Answer(msgspec.Struct, Generic[T], frozen=True):
    """Rows of one query, and the period that they cover completely.

    `complete` is False if the budget of the query ended before all files of the period were read.
    `following` is the cursor of the next page, None if there is none.
    """

    rows: list[T]
    from_us: int
    to_us: int
    complete: bool = True
    following: Cursor | None = None

    @property
    def covered(self) -> tuple[int, int]:
        """The covered period."""
        return self.from_us, self.to_us


class EventSeen(msgspec.Struct, frozen=True):
    """One event; `weight` is the number of events of its fault that it stands for."""

    worker: str
    file: str
    key: int
    at_us: int
    kind: str
    topic_partition: str | None
    offset: int | None
    fault: int | None
    task_id: str | None
    weight: int
    detail: dict[str, Any]


class TaskSeen(msgspec.Struct, frozen=True):
    """One attempt of a task that ended at `at_us`; `weight` is the number of tasks that it stands for."""

    worker: str
    file: str
    key: int
    at_us: int
    topic_partition: str
    offset: int
    last: int
    task_id: str
    program: str
    slot: int
    pid: int
    attempt: int
    status: str
    exit_code: int | None
    queued_us: int
    spawn_us: int
    ran_us: int
    weight: int
    parent: str | None


class SpanSeen(msgspec.Struct, frozen=True):
    """A read of a record: between `read_from_us` and `read_to_us`, by an assignment of a worker.

    `passed_us` is when the watermark is known to have passed it, None if that was not seen.
    """

    worker: str
    file: str
    key: int
    epoch: int
    first: int
    last: int
    read_from_us: int
    read_to_us: int
    passed_us: int | None = None


class TraceSeen(msgspec.Struct, frozen=True):
    """A step of a traced record."""

    worker: str
    file: str
    key: int
    at_us: int
    step: str
    took_us: int


class OutputSeen(msgspec.Struct, frozen=True):
    """Head and tail of a stream of a task; `size` is that of the whole."""

    worker: str
    file: str
    key: int
    at_us: int
    task_id: str
    stream: str
    size: int
    text: str


class FaultSeen(msgspec.Struct, frozen=True):
    """One problem: its count, first and last time, by all workers; `sample` is one text."""

    id: int
    kind: str
    stage: str
    what: str
    text: str
    frame: str
    count: int
    first_us: int
    last_us: int
    sample: str
    workers: tuple[str, ...]


class TickPoint(msgspec.Struct, frozen=True):
    """Sums of one name from `second` on, for `span` seconds; values are seconds, or those of a gauge."""

    second: int
    span: int
    n: int
    size: int
    total: float
    peak: float
    buckets: dict[int, int]

    @property
    def mean(self) -> float:
        """Mean of the values; 0 if there are none."""
        return self.total / self.n if self.n else 0.0

    def quantile(self, q: float) -> float:
        """Return a quantile of the durations, within 8 %; 0 if there are none."""
        return quantile(self.buckets, q)


class RecordStory(msgspec.Struct, frozen=True):
    """Rows about one record, of all workers, in the order of time."""

    topic_partition: TopicPartition
    offset: int
    spans: list[SpanSeen]
    tasks: list[TaskSeen]
    events: list[EventSeen]
    traces: list[TraceSeen]
    complete: bool = True
