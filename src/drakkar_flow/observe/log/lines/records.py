"""Log lines of records."""

from __future__ import annotations

from drakkar_flow.kernel.causes import cause_text
from drakkar_flow.observe.events.records import RecordsFailed
from drakkar_flow.observe.log.line import LogLine
from drakkar_flow.observe.log.lines.common import UNLESS_HELD, Lines

__all__ = ["LINES"]

_ROUTES = {
    "dlq": f"they become dead letters, {UNLESS_HELD}",
    "skip": f"they are dropped and count as finished, {UNLESS_HELD}",
    "fail": "the flow stops; their offsets are not committed",
    "pass": "they continue with payload None and the error in parse_error",
}


def _records_failed(e: RecordsFailed) -> LogLine:
    fields = {
        "kind": e.kind,
        "stage": e.stage,
        "topic": e.topic_partition[0],
        "partition": e.topic_partition[1],
        **e.about.fields(),
    }
    cause = e.cause or cause_text(e.error)
    fields |= {"count": e.count, "label": e.label, "error": e.error, "cause": cause}
    expect = f"given up: skipped ({e.decided_by})" if e.decided_by else _ROUTES.get(e.policy, _ROUTES["dlq"])
    return LogLine("warning", "records_failed", fields, expect, (e.kind, e.stage), cause)


LINES: Lines = {RecordsFailed: _records_failed}
