"""Log lines of the flight recorder."""

from __future__ import annotations

from drakkar_flow.kernel.causes import cause_text
from drakkar_flow.observe.events.recorder import RecorderChanged, RecorderStarted, RecordingFaulty
from drakkar_flow.observe.log.line import Level, LogLine
from drakkar_flow.observe.log.lines.common import Lines

__all__ = ["LINES"]

_STATES: dict[str, tuple[Level, str, str]] = {
    "full": ("info", "recorder_recovered", ""),
    "without_details": (
        "warning",
        "recorder_without_details",
        "the flow goes on; counts, offsets and faults are recorded, details again when there is space",
    ),
    "off": ("warning", "recorder_off", "the flow goes on; nothing is recorded"),
}


def _started(e: RecorderStarted) -> LogLine:
    return LogLine("info", "recorder_started", {"directory": e.directory})


def _changed(e: RecorderChanged) -> LogLine:
    level, name, expect = _STATES[e.state]
    fields = {"reason": e.reason} if e.reason else {}
    if e.reason and not expect:  # an error that did not change the state
        level, name, expect = "warning", "recorder_failed", "the flow goes on; the event is not recorded"
    return LogLine(level, name, fields, expect, (e.state,), cause_text(e.reason))


def _faulty(e: RecordingFaulty) -> LogLine:
    fields = {"path": e.path, "reason": e.reason}
    return LogLine("warning", "recording_faulty", fields, "it stays as it is; new recordings are made", ())


LINES: Lines = {RecorderStarted: _started, RecorderChanged: _changed, RecordingFaulty: _faulty}
