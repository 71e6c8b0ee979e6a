"""Log lines of sinks and dead letters."""

from __future__ import annotations

from typing import Any

from drakkar_flow.kernel.causes import cause_text
from drakkar_flow.observe.events.sinks import (
    DeadLetterFailed,
    DeadLettersWritten,
    DeliveriesFailed,
    DeliveriesSkipped,
    DeliveriesSuppressed,
    DeliveryRetried,
    SinkCircuitChanged,
)
from drakkar_flow.observe.log.line import LogLine
from drakkar_flow.observe.log.lines.common import Lines

__all__ = ["LINES"]


def _delivery_retried(e: DeliveryRetried) -> LogLine:
    fields = {**_sink(e), "attempt": e.attempt, "delay_s": round(e.delay_s, 3), "error": e.error}
    of = (e.sink_type, e.sink_name)
    return LogLine("warning", "sink_delivery_retry", fields, "retried after delay_s", of, cause_text(e.error))


def _deliveries_failed(e: DeliveriesFailed) -> LogLine:
    expect = "the sink's failure policy applies: dead letter, skip or stop"
    fields = {**_sink(e), "attempts": e.attempts, "error": e.error}
    return LogLine("error", "sink_delivery_failed", fields, expect, (e.sink_type, e.sink_name), cause_text(e.error))


def _deliveries_skipped(e: DeliveriesSkipped) -> LogLine:
    expect = "the payloads are dropped; their records count as finished"
    return LogLine("warning", "sink_delivery_skipped", _sink(e), expect, (e.sink_type, e.sink_name))


def _suppressed(e: DeliveriesSuppressed) -> LogLine:
    fields = {**e.about.fields(), "count": e.count}
    return LogLine("info", "deliveries_suppressed", fields, "their partitions' next owner reads them again", ())


def _sink_circuit(e: SinkCircuitChanged) -> LogLine:
    fields = {"sink_type": e.sink_type, "sink_name": e.sink_name, "failures": e.failures}
    if e.state != "open":
        return LogLine("info", f"sink_circuit_{e.state}", fields)
    meanwhile = "its deliveries wait" if e.waits else "its deliveries fail without an attempt"
    expect = f"{meanwhile}, until one batch is written after the cool-down"
    return LogLine("error", "sink_circuit_open", {**fields, "reason": e.reason}, expect)


def _dead_letters(e: DeadLettersWritten) -> LogLine:
    expect = "their records count as finished; see the dead letter topic"
    return LogLine("warning", "dlq_message_sent", {**e.about.fields(), "count": e.count}, expect, ())


def _dead_letter_failed(e: DeadLetterFailed) -> LogLine:
    expect = (
        "they are dropped and their offsets committed (dlq.on_failure: drop)"
        if e.dropped
        else "retried; until then their offsets are not committed, and a restart reads their records again"
    )
    fields = {**e.about.fields(), "count": e.count, "error": e.error}
    return LogLine("error", "dlq_send_failed", fields, expect, (str(e.dropped),), cause_text(e.error))


def _sink(e: DeliveryRetried | DeliveriesFailed | DeliveriesSkipped) -> dict[str, Any]:
    return {"sink_type": e.sink_type, "sink_name": e.sink_name, **e.about.fields(), "count": e.count}


LINES: Lines = {
    DeliveryRetried: _delivery_retried,
    DeliveriesFailed: _deliveries_failed,
    DeliveriesSkipped: _deliveries_skipped,
    DeliveriesSuppressed: _suppressed,
    SinkCircuitChanged: _sink_circuit,
    DeadLettersWritten: _dead_letters,
    DeadLetterFailed: _dead_letter_failed,
}
