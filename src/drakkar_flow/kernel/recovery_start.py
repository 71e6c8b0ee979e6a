"""Start of a partition with a recovery store: the store's position and Kafka's committed offset may disagree. Pure.

The store's position always wins. Kafka's offset is a copy that is never ahead of it, so it decides only where the store
has no row: for a flow with state that means lost state, and `runtime.recovery.on_lost` decides.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.kernel.partition_row import PartitionRow
from drakkar_flow.model.record import TopicPartition

__all__ = ["Committed", "Log", "Start", "StartPolicy", "StartRefused", "committed_of", "decide_start"]

_MARK = "d2:"  # beginning of the metadata of our commits; alone if no offset ranges are to be named


class Committed(NamedTuple):
    """The group's committed offset of a partition.

    - `finished`: offsets beyond it that its metadata names as finished.
    - `ours`: the metadata is that of a commit from a recovery store; no other client has changed the offset since.
    """

    offset: int
    finished: OffsetRanges
    ours: bool


class Log(NamedTuple):
    """The partition's log: its first offset, its end, and True if its topic has the id that the row belongs to."""

    start: int
    end: int
    same_topic: bool = True


class StartPolicy(NamedTuple):
    """Settings of a start.

    - `has_state`: the flow keeps state.
    - `first_start`: the store has never been used. Partitions without row and commit that appear later are new: they
      are read from their beginning.
    """

    has_state: bool
    first_start: bool
    on_lost: Literal["fail", "commits", "earliest"] = "fail"
    on_incompatible: Literal["fail", "reset"] = "fail"
    auto_offset_reset: Literal["earliest", "latest", "error", "none"] = "earliest"


def committed_of(offset: int, metadata: str | None) -> Committed | None:
    """Return a committed offset as the brokers know it; None for a negative one: the group has none.

    >>> committed_of(7, "d2:").ours, committed_of(7, "").ours, committed_of(-1001, None)
    (True, False, None)
    """
    if offset < 0:
        return None
    metadata = metadata or ""
    finished = OffsetRanges.decode(metadata, offset)
    return Committed(offset, finished, ours=metadata.startswith(_MARK))


class Start(NamedTuple):
    """The start of a partition: the first offset to read, offsets beyond it to skip, and if the row's state is kept.

    `warning` is a text for the log; empty in the normal case.
    """

    offset: int
    finished: OffsetRanges
    keeps_state: bool
    warning: str = ""


class StartRefused(NamedTuple):
    """The reason why a partition must not be read, and how to fix it."""

    what: str
    remedy: str


def decide_start(
    at: TopicPartition, row: PartitionRow | None, committed: Committed | None, log: Log, policy: StartPolicy
) -> Start | StartRefused:
    """Decide where a partition starts, and if it keeps its state.

    >>> row = PartitionRow(7, OffsetRanges([(9, 11)]), {})
    >>> policy = StartPolicy(has_state=True, first_start=False)
    >>> decide_start(("in", 0), row, None, Log(0, 20), policy).offset
    7
    >>> decide_start(("in", 0), None, Committed(5, OffsetRanges(), True), Log(0, 20), policy).what
    'in-0: the group has committed offset 5, but the store has no row: the state is lost'
    """
    name = f"{at[0]}-{at[1]}"
    if row is None:
        if committed is None:
            return _new(name, log, policy)
        return _without_row(name, committed, log, policy)
    if not log.same_topic:
        return _recreated(name, at[0], log, policy)
    if row.offset < log.start:
        return _behind(name, row, log, policy)
    if row.offset > log.end:
        warning = f"{name}: the topic ends at {log.end}, before the stored position {row.offset}; continues at its end"
        return Start(log.end, OffsetRanges(), keeps_state=True, warning=warning)
    finished, warning = _clipped(row.finished, log.end), _disagreement(name, row.offset, committed)
    return Start(row.offset, finished, keeps_state=True, warning=warning)


def _new(name: str, log: Log, policy: StartPolicy) -> Start | StartRefused:
    if policy.auto_offset_reset in ("error", "none"):
        return _no_offset(f"{name}: neither the store nor the group has an offset", policy)
    from_end = policy.auto_offset_reset == "latest" and policy.first_start
    return Start(log.end if from_end else log.start, OffsetRanges(), keeps_state=False)


def _without_row(name: str, committed: Committed, log: Log, policy: StartPolicy) -> Start | StartRefused:
    if policy.has_state and policy.on_lost == "fail":
        return StartRefused(
            f"{name}: the group has committed offset {committed.offset}, but the store has no row: the state is lost",
            "restore the store from a backup; or start once with runtime.recovery.on_lost: commits (empty state from "
            "the committed offset) or earliest (state is computed again, deliveries repeat)",
        )
    if policy.has_state and policy.on_lost == "earliest":
        warning = f"{name}: no row in the store; reads from the beginning {log.start} with empty state"
        return Start(log.start, OffsetRanges(), keeps_state=False, warning=warning)
    offset = max(log.start, min(committed.offset, log.end))
    finished = _clipped(committed.finished, log.end) if offset == committed.offset else OffsetRanges()
    empty = " with empty state" if policy.has_state else ""
    gone = f"; {log.start - committed.offset} offsets before are deleted" if committed.offset < log.start else ""
    warning = f"{name}: no row in the store; continues at the committed offset {committed.offset}{empty}{gone}"
    return Start(offset, finished, keeps_state=False, warning=warning)


def _recreated(name: str, topic: str, log: Log, policy: StartPolicy) -> Start | StartRefused:
    if policy.has_state and policy.on_incompatible == "fail":
        return StartRefused(
            f"{name}: topic {topic!r} was deleted and created again; position and state belong to the old one",
            "start once with runtime.recovery.on_incompatible: reset (empty state), or restore the topic",
        )
    empty = " with empty state" if policy.has_state else ""
    warning = f"{name}: topic {topic!r} was created again; reads from its beginning {log.start}{empty}"
    return Start(log.start, OffsetRanges(), keeps_state=False, warning=warning)


def _behind(name: str, row: PartitionRow, log: Log, policy: StartPolicy) -> Start | StartRefused:
    finished = sum(min(stop, log.start) - start for start, stop in row.finished if start < log.start)
    gone = log.start - row.offset - finished
    what = f"{name}: the log begins at {log.start}, after the stored position {row.offset}: {gone} offsets are deleted"
    if policy.auto_offset_reset in ("error", "none"):
        return _no_offset(what, policy)
    kept = _clipped(row.finished, log.end)
    kept.cut(log.start)
    return Start(kept.end_of(log.start), kept, keeps_state=True, warning=what)


def _no_offset(what: str, policy: StartPolicy) -> StartRefused:
    reset = policy.auto_offset_reset
    return StartRefused(what, f"kafka.auto_offset_reset is {reset}; set it to earliest to read from the beginning")


def _disagreement(name: str, position: int, committed: Committed | None) -> str:
    if committed is None or committed.offset == position:
        return ""
    if not committed.ours:
        return (
            f"{name}: another client committed offset {committed.offset}; the store's position {position} is used. "
            "To start at the committed offset, run: drakkar-flow recovery reset"
        )
    if committed.offset > position:
        count = committed.offset - position
        return (
            f"{name}: the store is older than the committed offset {committed.offset}; {count} offsets are read again"
        )
    return ""


def _clipped(ranges: OffsetRanges, end: int) -> OffsetRanges:
    """Return the ranges below the end of the log."""
    return OffsetRanges((start, min(stop, end)) for start, stop in ranges)
