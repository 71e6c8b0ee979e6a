"""Log lines of stalls."""

from __future__ import annotations

from typing import Any

from drakkar_flow.observe.events.stalls import Stalled, StallEnded
from drakkar_flow.observe.log.line import LogLine
from drakkar_flow.observe.log.lines.common import Lines, partition_name

__all__ = ["LINES"]

_STALLS = {
    "partition": "it commits nothing until it makes progress; the stacks show the calls that wait",
    "loop": "a hook blocks the event loop and thereby the whole flow; await, or use offload",
    "engine": "a function of the flow blocks the engine and thereby the whole flow",
}


def _stalled(e: Stalled) -> LogLine:
    fields: dict[str, Any] = {"for_s": round(e.for_s, 3)}
    if e.topic_partition is not None:
        fields |= {"topic": e.topic_partition[0], "partition": e.topic_partition[1], "offset": e.offset}
        fields |= {"waits_for": e.waits_for}
    cause = partition_name(e.topic_partition) if e.topic_partition is not None else ""
    return LogLine("error", f"{e.what}_stalled", {**fields, "stacks": dict(e.stacks)}, _STALLS[e.what], (), cause)


def _stall_ended(e: StallEnded) -> LogLine:
    topic_partition = (
        {"topic": e.topic_partition[0], "partition": e.topic_partition[1]} if e.topic_partition is not None else {}
    )
    cause = partition_name(e.topic_partition) if e.topic_partition is not None else ""
    return LogLine(
        "info", f"{e.what}_moves_again", {**topic_partition, "after_s": round(e.after_s, 3)}, key=(), cause=cause
    )


LINES: Lines = {Stalled: _stalled, StallEnded: _stall_ended}
