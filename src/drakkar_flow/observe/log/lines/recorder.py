"""Log lines of the flight recorder."""

from __future__ import annotations

from drakkar_flow.kernel.causes import cause_text
from drakkar_flow.observe.events.recorder import RecorderChanged, RecorderFailed, RecorderStarted, RecordingFaulty
from drakkar_flow.observe.log.line import LogLine
from drakkar_flow.observe.log.lines.common import Lines

__all__ = ["LINES"]


def _started(e: RecorderStarted) -> LogLine:
    return LogLine("info", "recorder_started", {"directory": e.directory})


def _changed(e: RecorderChanged) -> LogLine:
    fields, cause = {"reason": e.reason}, cause_text(e.reason)
    if e.state == "full":
        return LogLine("info", "recorder_recovered", {})
    if e.state == "off":
        return LogLine("warning", "recorder_off", fields, "the flow goes on; nothing is recorded", (), cause)
    expect = "the flow goes on; counts, offsets and faults are recorded, details again when there is space"
    return LogLine("warning", "recorder_without_details", fields, expect, (), cause)


def _failed(e: RecorderFailed) -> LogLine:
    fields, cause = {"reason": e.reason}, cause_text(e.reason)
    return LogLine("warning", "recorder_failed", fields, "the flow goes on; this event is not recorded", (), cause)


def _faulty(e: RecordingFaulty) -> LogLine:
    fields = {"path": e.path, "reason": e.reason}
    return LogLine("warning", "recording_faulty", fields, "it is tried again later; new recordings are made", ())


LINES: Lines = {RecorderStarted: _started, RecorderChanged: _changed, RecorderFailed: _failed, RecordingFaulty: _faulty}
