"""Events of records: their failures in steps and their end."""

from __future__ import annotations

from drakkar_flow.model.record import TopicPartition, Watermark
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.context import NO_CONTEXT, EventContext

__all__ = [
    "RecordsFailed",
    "RecordsFinished",
]


class RecordsFailed(Event, frozen=True):
    """Records of a partition failed in a step; `error` and `label` are those of the first record.

    `policy` is dlq, skip, fail, or pass if the records continue; `decided_by` is the setting that chose it, if any.
    `records` is the number of records that fail for the first time, None if all do. `cause` is the cause of the
    failed task, see `task_causes`.
    """

    kind: str
    stage: str
    topic_partition: TopicPartition
    count: int
    error: str
    label: str
    policy: str = "dlq"
    about: EventContext = NO_CONTEXT
    records: int | None = None
    decided_by: str = ""
    cause: str = ""

    @property
    def new(self) -> int:
        """Number of records that failed for the first time."""
        return self.count if self.records is None else self.records


class RecordsFinished(Event, frozen=True):
    """Records were finished, by the status of their worst branch.

    `oldest_latency_s` is the longest time from read to finish, None if the time of the read is unknown. `watermarks`
    are those that advanced; `assignments` has each topic partition with its epoch and the number of its records.
    """

    done: int
    skipped: int
    dead: int
    oldest_latency_s: float | None = None
    watermarks: tuple[Watermark, ...] = ()
    assignments: tuple[tuple[TopicPartition, int, int], ...] = ()
