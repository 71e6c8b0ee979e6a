"""Rows of a recording's tables as readers see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from drakkar_flow.recorder.files import RecordedFile
from drakkar_flow.recorder.fold.keys import us_of
from drakkar_flow.recorder.fold.ticks import merge_buckets
from drakkar_flow.recorder.rows import EventSeen, FaultSeen, SpanSeen, TaskSeen, TickPoint

__all__ = ["STATUS", "both", "event_of", "fault_of", "origin_of", "point_of", "span_of", "task_of"]

STATUS = ("completed", "failed", "cancelled")
"""Texts of the numbers in the column `status`."""


def origin_of(file: RecordedFile) -> tuple[str, str]:
    """Return worker and id of a file."""
    return file.side.worker, file.side.file


def event_of(file: RecordedFile, row: Sequence[Any]) -> EventSeen:
    """Return an event."""
    key, kind, number, offset, fault, task, weight, detail = row
    place = file.name(number) or None
    content = msgspec.json.decode(detail, type=dict[str, Any])
    return EventSeen(*origin_of(file), key, us_of(key), file.name(kind), place, offset, fault, task, weight, content)


def task_of(file: RecordedFile, row: Sequence[Any]) -> TaskSeen:
    """Return an attempt of a task."""
    key, number, offset, last, task_id, program, slot, pid, attempt, status, *others = row
    place, name = file.name(number), file.name(program)
    return TaskSeen(
        *origin_of(file),
        key,
        us_of(key),
        place,
        offset,
        last,
        task_id,
        name,
        slot,
        pid,
        attempt,
        STATUS[status],
        *others,
    )


def span_of(file: RecordedFile, row: Sequence[Any], passed_us: int | None) -> SpanSeen:
    """Return a read of a record."""
    key, epoch, first, last, from_us, to_us = row
    return SpanSeen(*origin_of(file), key, epoch, first, last, from_us, to_us, passed_us)


def point_of(row: Sequence[Any]) -> TickPoint:
    """Return the sums of a name."""
    second, span, _, n, size, total, peak, buckets = row
    return TickPoint(second, span, n, size, total, peak, merge_buckets([buckets]))


def fault_of(row: Sequence[Any], worker: str) -> FaultSeen:
    """Return a problem of one worker."""
    number, kind, stage, what, text, frame, n, first_us, last_us, sample = row
    return FaultSeen(number, kind, stage, what, text, frame, n, first_us, last_us, sample, (worker,))


def both(one: FaultSeen, other: FaultSeen) -> FaultSeen:
    """Return one problem of the rows that two files have of it."""
    return msgspec.structs.replace(
        one,
        count=one.count + other.count,
        first_us=min(one.first_us, other.first_us),
        last_us=max(one.last_us, other.last_us),
        workers=tuple(sorted({*one.workers, *other.workers})),
    )
