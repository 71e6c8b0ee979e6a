"""Events of records: their failures in steps and their end."""

from __future__ import annotations

from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.context import NO_CONTEXT, EventContext

__all__ = [
    "RecordsFailed",
    "RecordsFinished",
]


class RecordsFailed(Event, frozen=True):
    """A step turned records of a partition into failures; `error` and `label` are the first one's.

    `policy` is where they go: dlq, skip, fail, or pass where they go on; `decided_by` is the setting that says so,
    where it does. `records` are those that had not failed before, None where all count. `cause` is the failed
    task's, see `causes`.
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
        """How many records failed for the first time."""
        return self.count if self.records is None else self.records


class RecordsFinished(Event, frozen=True):
    """Records returned all their credit, by the status of their worst branch.

    `oldest_latency_s` is the time from reading to finishing of the one that took longest, None
    where the time of reading is not known.
    """

    done: int
    skipped: int
    dead: int
    oldest_latency_s: float | None = None
