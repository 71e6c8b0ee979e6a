"""Event context: the records and tasks of an event, so that log lines can be traced to messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from drakkar_flow.model.record import Record

__all__ = ["NO_CONTEXT", "EventContext"]

_SHOWN = 10


class EventContext(msgspec.Struct, frozen=True, gc=False):
    """The first records and tasks of an event, at most ten each, and the number of its records."""

    records: tuple[tuple[str, int, int], ...] = ()
    tasks: tuple[str, ...] = ()
    total: int = 0

    @classmethod
    def of(cls, records: Iterable[Record], tasks: Iterable[str] = ()) -> EventContext:
        """Make a context of records, each once, and of task ids, without empty ones."""
        places = list(dict.fromkeys((record.topic, record.partition, record.offset) for record in records))
        ids = [task_id for task_id in dict.fromkeys(tasks) if task_id]
        return cls(tuple(places[:_SHOWN]), tuple(ids[:_SHOWN]), len(places))

    def fields(self) -> dict[str, Any]:
        """Return the fields of a log line: the first record and task, and all known ones if there are several.

        >>> EventContext.of([Record(topic="in", partition=0, offset=at) for at in (7, 9)], ["t-1"]).fields()
        {'topic': 'in', 'partition': 0, 'offset': 7, 'records': ['in:0:7', 'in:0:9'], 'task_id': 't-1'}
        """
        fields: dict[str, Any] = {}
        if self.records:
            fields |= zip(("topic", "partition", "offset"), self.records[0], strict=True)
        if len(self.records) > 1:
            fields["records"] = [f"{topic}:{partition}:{offset}" for topic, partition, offset in self.records]
        if self.total > len(self.records):
            fields["records_total"] = self.total
        if self.tasks:
            fields["task_id"] = self.tasks[0]
        if len(self.tasks) > 1:
            fields["task_ids"] = list(self.tasks)
        return fields


NO_CONTEXT = EventContext()
"""Context of events without a known record."""
