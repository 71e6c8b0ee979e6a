"""Log lines of the cache."""

from __future__ import annotations

from drakkar_flow.kernel.causes import cause_text
from drakkar_flow.observe.events.cache import (
    CacheChanged,
    CacheDropped,
    CacheFlushFailed,
    CachePeerFailed,
    CacheStarted,
)
from drakkar_flow.observe.log.line import LogLine
from drakkar_flow.observe.log.lines.common import Lines

__all__ = ["LINES"]


def _started(e: CacheStarted) -> LogLine:
    return LogLine("info", "cache_started", {"path": e.path})


def _changed(e: CacheChanged) -> LogLine:
    fields, cause = {"reason": e.reason}, cause_text(e.reason)
    if e.state == "memory":
        expect = "the flow goes on; cached values are in memory alone, and lost with the process"
        return LogLine("warning", "cache_in_memory", fields, expect, (), cause)
    expect = "the flow goes on; values that were cached are missing"
    return LogLine("warning", "cache_renewed", fields, expect, (), cause)


def _dropped(e: CacheDropped) -> LogLine:
    fields = {"kind": e.kind, "count": e.count, "reason": e.reason}
    return LogLine("warning", "cache_dropped", fields, "the flow goes on; these values are missing", (e.kind,))


def _flush_failed(e: CacheFlushFailed) -> LogLine:
    fields, cause = {"reason": e.reason, "count": e.count}, cause_text(e.reason)
    expect = "the flow goes on; the changes stay in memory, and are written again in 30 s"
    return LogLine("warning", "cache_flush_failed", fields, expect, (), cause)


def _peer_failed(e: CachePeerFailed) -> LogLine:
    fields, cause = {"peer": e.peer, "reason": e.reason}, cause_text(e.reason)
    expect = "the flow goes on; the exchange is tried again in the next round"
    return LogLine("warning", "cache_peer_failed", fields, expect, (e.peer,), cause)


LINES: Lines = {
    CacheStarted: _started,
    CacheChanged: _changed,
    CacheDropped: _dropped,
    CacheFlushFailed: _flush_failed,
    CachePeerFailed: _peer_failed,
}
