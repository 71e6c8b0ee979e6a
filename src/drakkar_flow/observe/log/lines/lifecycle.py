"""Log lines of a flow's lifecycle."""

from __future__ import annotations

from typing import Any

from drakkar_flow.observe.events.lifecycle import (
    DrainFinished,
    FlowFailed,
    ListenerFailed,
    ListenerLagged,
    StateChanged,
)
from drakkar_flow.observe.log.line import Level, LogLine
from drakkar_flow.observe.log.lines.common import MAX_PARTITIONS, Lines, partition_name

__all__ = ["LINES"]

_READ_AGAIN = "uncommitted records will be read again after a restart"
_STATES: dict[str, tuple[Level, str]] = {
    "starting": ("info", "connects to everything, then subscribes"),
    "running": ("info", ""),
    "draining": ("info", "no more records are read; records in flight may finish, then the last commit is made"),
    "stopped": ("info", ""),
    "failed": ("error", _READ_AGAIN),
}


def _state(e: StateChanged) -> LogLine:
    level, expect = _STATES.get(e.state, ("info", ""))
    given = {"flow": e.flow, "config": e.config, "reason": e.reason}
    fields = {name: value for name, value in given.items() if value}
    return LogLine(level, f"drakkar_{e.state}", fields, expect)


def _flow_failed(e: FlowFailed) -> LogLine:
    return LogLine("error", "flow_failed", {"reason": e.reason}, f"the process stops; {_READ_AGAIN}")


def _drained(e: DrainFinished) -> LogLine:
    fields: dict[str, Any] = {
        "unfinished": e.unfinished,
        "uncommitted": e.uncommitted,
        "duration_s": round(e.duration_s, 3),
    }
    if e.unfinished == 0:
        return LogLine("info", "drain_finished", fields)
    fields["oldest"] = [
        f"{partition_name(topic_partition)}:{offset}" for topic_partition, offset in e.oldest[:MAX_PARTITIONS]
    ]
    expect = "unfinished records will be read again after a restart, or by the partitions' next owner"
    return LogLine("warning", "drain_timeout", fields, expect)


def _listener_failed(e: ListenerFailed) -> LogLine | None:
    fields = {"listener": e.listener, "of": e.of, "error": e.error}
    expect = "the flow and other listeners continue; further errors for this type of event are only counted"
    return LogLine("error", "listener_failed", fields, expect) if e.first else None


def _listener_lagged(e: ListenerLagged) -> LogLine:
    fields = {"listener": e.listener, "dropped": e.dropped}
    return LogLine("warning", "listener_lagged", fields, "the flow does not wait for listeners")


LINES: Lines = {
    StateChanged: _state,
    FlowFailed: _flow_failed,
    DrainFinished: _drained,
    ListenerFailed: _listener_failed,
    ListenerLagged: _listener_lagged,
}
