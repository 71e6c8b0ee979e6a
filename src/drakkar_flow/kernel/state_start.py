"""Start of a partition with state in group mode: the group's offset and the stored position may disagree. Pure.

Both are written by one transaction, so a difference was made from outside: an offset was reset, a topic was deleted, or
the flow ran without state. `runtime.state.on_mismatch` decides then.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.kernel.recovery_start import Log, StartRefused
from drakkar_flow.kernel.state_messages import Position
from drakkar_flow.model.record import TopicPartition

__all__ = ["BY_RESET_POLICY", "FIRST_START", "CommittedOffset", "StatePolicy", "StateStart", "decide_state_start"]

BY_RESET_POLICY = -1
"""Offset of a start that `kafka.auto_offset_reset` decides."""

FIRST_START = "first start"
"""Metadata of the offsets that are committed before the first start of a group (`auto_offset_reset: latest`)."""


class CommittedOffset(NamedTuple):
    """The group's committed offset of a partition, and its metadata."""

    offset: int
    metadata: str = ""


class StatePolicy(NamedTuple):
    """Settings of a start."""

    on_mismatch: Literal["fail", "keep", "reset"] = "fail"
    auto_offset_reset: Literal["earliest", "latest", "error", "none"] = "earliest"


class StateStart(NamedTuple):
    """The start of a partition: the first offset to read, offsets beyond it to skip, and if the state is kept.

    - `offset` may be BY_RESET_POLICY.
    - `warning` is a text for the log; empty in the normal case. Then the position is written again soon.
    """

    offset: int
    finished: OffsetRanges
    keeps_state: bool
    warning: str = ""


def decide_state_start(
    at: TopicPartition, position: Position | None, committed: CommittedOffset | None, log: Log, policy: StatePolicy
) -> StateStart | StartRefused:
    """Decide where a partition starts, and if it keeps its state.

    >>> position = Position(group="g", flow="f", topic_id="t", offset=7, finished=[(9, 11)])
    >>> decide_state_start(("in", 0), position, CommittedOffset(7), Log(0, 20), StatePolicy()).offset
    7
    >>> decide_state_start(("in", 0), position, CommittedOffset(5), Log(0, 20), StatePolicy()).what
    'in-0: the group has committed offset 5, but its state is that of offset 7: another client set the offset'
    """
    name = f"{at[0]}-{at[1]}"
    if position is None:
        return _without_position(name, committed, log, policy)
    if committed is not None and committed.metadata == FIRST_START:
        committed = None  # the group's offsets expired, and those of its first start were committed again
    if not log.same_topic:
        return _recreated(name, at[0], position, committed, log, policy)
    if committed is None:
        if policy.on_mismatch == "reset":
            what = f"{name}: the group has no offset; the state of offset {position.offset} is dropped"
            return StateStart(BY_RESET_POLICY, OffsetRanges(), keeps_state=False, warning=what)
        what = f"{name}: the group has no offset; continues at the position {position.offset} of its state"
        return _at_position(name, position, log, policy, what)
    if committed.offset != position.offset:
        what = (
            f"{name}: the group has committed offset {committed.offset}, but its state is that of offset "
            f"{position.offset}: another client set the offset"
        )
        return _mismatch(what, committed.offset, log, policy)
    return _at_position(name, position, log, policy, "")


def _without_position(
    name: str, committed: CommittedOffset | None, log: Log, policy: StatePolicy
) -> StateStart | StartRefused:
    if committed is None:
        return StateStart(BY_RESET_POLICY, OffsetRanges(), keeps_state=False)
    finished = OffsetRanges.decode(committed.metadata, committed.offset)
    if committed.metadata == FIRST_START:
        return StateStart(committed.offset, finished, keeps_state=False)
    what = (
        f"{name}: the group has committed offset {committed.offset}, but the state topic has no position: its state is "
        "lost, or the flow kept none before"
    )
    if policy.on_mismatch == "fail":
        remedy = "to start with empty state from that offset, start once with runtime.state.on_mismatch: reset"
        return StartRefused(what, remedy)
    offset = _within(log, committed.offset)
    warning = f"{what}; continues at {offset} with empty state"
    finished = finished if offset == committed.offset else OffsetRanges()
    return StateStart(offset, finished, keeps_state=False, warning=warning)


def _recreated(
    name: str, topic: str, position: Position, committed: CommittedOffset | None, log: Log, policy: StatePolicy
) -> StateStart | StartRefused:
    """An offset other than that of the former topic was set by someone who knows the new one."""
    chosen = committed is not None and committed.offset != position.offset
    offset = committed.offset if chosen and committed is not None else log.start
    what = f"{name}: topic {topic!r} was deleted and created again, but the state is that of the former topic"
    return _mismatch(what, offset, log, policy)


def _at_position(
    name: str, position: Position, log: Log, policy: StatePolicy, warning: str
) -> StateStart | StartRefused:
    if position.offset > log.end:
        what = f"{name}: the log ends at {log.end}, before the position {position.offset} of the state"
        return _mismatch(what, log.start if policy.on_mismatch == "reset" else log.end, log, policy)
    finished = OffsetRanges((start, min(stop, log.end)) for start, stop in position.finished)
    if position.offset >= log.start:
        return StateStart(position.offset, finished, keeps_state=True, warning=warning)
    gone = log.start - position.offset
    gone -= sum(min(stop, log.start) - start for start, stop in finished if start < log.start)
    what = f"{name}: the log begins at {log.start}, after the position {position.offset}: {gone} offsets are deleted"
    if policy.auto_offset_reset in ("error", "none"):
        remedy = f"kafka.auto_offset_reset is {policy.auto_offset_reset}; set it to earliest to continue"
        return StartRefused(what, remedy)
    finished.cut(log.start)
    return StateStart(finished.end_of(log.start), finished, keeps_state=True, warning=what)


def _mismatch(what: str, offset: int, log: Log, policy: StatePolicy) -> StateStart | StartRefused:
    offset = _within(log, offset)
    if policy.on_mismatch == "fail":
        return StartRefused(
            what,
            "start once with runtime.state.on_mismatch: keep (the state stays, records are counted again or left out) "
            f"or reset (empty state), both from offset {offset}",
        )
    keeps = policy.on_mismatch == "keep"
    how = "its state as it is" if keeps else "empty state"
    return StateStart(offset, OffsetRanges(), keeps, f"{what}; continues at {offset} with {how}")


def _within(log: Log, offset: int) -> int:
    """Return the nearest offset that can be read: for others the client would choose one."""
    return max(log.start, min(offset, log.end))
