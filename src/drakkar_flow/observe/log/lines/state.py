"""Log lines of keyed state in group mode."""

from __future__ import annotations

from drakkar_flow.observe.events.state import StateRestored, StateStartDecided
from drakkar_flow.observe.log.line import LogLine
from drakkar_flow.observe.log.lines.common import Lines, partition_name

__all__ = ["LINES"]


def _restored(e: StateRestored) -> LogLine:
    fields = {
        "partition": partition_name(e.topic_partition),
        "keys": e.keys,
        "entries": e.entries,
        "duration_s": round(e.duration_s, 3),
    }
    return LogLine("info", "state_restored", fields)


def _start_decided(e: StateStartDecided) -> LogLine:
    fields = {"partition": partition_name(e.topic_partition), "what": e.what}
    return LogLine("warning", "state_start", fields, "the partition is read on")


LINES: Lines = {StateRestored: _restored, StateStartDecided: _start_decided}
