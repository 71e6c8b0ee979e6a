"""Event context: the records and tasks an event is about, so that log lines can be traced to messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from drakkar_flow.model.record import Record

__all__ = ["NO_CONTEXT", "EventContext"]

_SHOWN = 10


class EventContext(msgspec.Struct, frozen=True, gc=False):
    """The first records and tasks that an event is about, ten at most, and how many records there are."""

    records: tuple[tuple[str, int, int], ...] = ()
    tasks: tuple[str, ...] = ()
    total: int = 0

    @classmethod
    def of(cls, records: Iterable[Record], tasks: Iterable[str] = ()) -> EventContext:
        """Name records, each once, and tasks by their ids, of which empty ones are left out."""
        places = list(dict.fromkeys((record.topic, record.partition, record.offset) for record in records))
        ids = [task_id for task_id in dict.fromkeys(tasks) if task_id]
        return cls(tuple(places[:_SHOWN]), tuple(ids[:_SHOWN]), len(places))

    def fields(self) -> dict[str, Any]:
        """What a log line says of it: the first record and task each, and where there are more, all that are named.

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
"""For events that no record is known for."""
