"""Log lines of executors, their children and the host."""

from __future__ import annotations

from typing import Any

from drakkar_flow.kernel.causes import cause_text
from drakkar_flow.observe.events.executor import (
    ChildEnded,
    ChildLogged,
    ChildStarted,
    ExecutorBreakerChanged,
    ExecutorUnguarded,
    HostLimitLow,
    HostShortage,
)
from drakkar_flow.observe.log.line import LogLine
from drakkar_flow.observe.log.lines.common import Lines, executor_fields

__all__ = ["LINES"]


def _child_started(e: ChildStarted) -> LogLine:
    return LogLine(
        "debug",
        "executor_child_started",
        {**executor_fields(e.executor_name), "child": e.child, "child_pid": e.pid},
        key=(e.executor_name,),
    )


def _child_ended(e: ChildEnded) -> LogLine:
    fields: dict[str, Any] = {**executor_fields(e.executor_name), "child": e.child, "child_pid": e.pid}
    fields |= {"requests": e.requests, "reason": e.reason}
    fields["lived_s"] = round(e.lived_s, 3)
    if not e.failed:
        return LogLine("info", "executor_child_ended", fields, key=(e.executor_name,))
    expect = "its tasks failed with this reason; another child is started after a pause"
    return LogLine("warning", "executor_child_failed", fields, expect, (e.executor_name,), cause_text(e.reason))


def _child_logged(e: ChildLogged) -> LogLine:
    fields: dict[str, Any] = {
        **executor_fields(e.executor_name),
        "child": e.child,
        "child_pid": e.pid,
        "text": "\n".join(e.lines),
    }
    if e.more:
        fields["more_lines"] = e.more
    return LogLine("info", "executor_child_stderr", fields, key=(e.executor_name, str(e.child)))


def _breaker(e: ExecutorBreakerChanged) -> LogLine:
    fields = {
        **executor_fields(e.executor_name),
        "mode": e.executor,
        "state": e.state,
        "failures": e.failures,
        "reason": e.reason,
    }
    if e.state == "open":
        what = "child" if e.executor == "persistent" else "program"
        expect = f"no {what} is started, except one probe after each cool-down; tasks wait, or fall back"
        return LogLine(
            "error", "executor_breaker_open", fields, expect, (e.executor_name, e.executor), cause_text(e.reason)
        )
    return LogLine("info", f"executor_breaker_{e.state}", fields, key=(e.executor_name, e.executor))


def _unguarded(e: ExecutorUnguarded) -> LogLine:
    expect = "the flow continues; if this process is killed, its programs run to their end"
    return LogLine("warning", "executor_unguarded", {**executor_fields(e.executor_name), "reason": e.reason}, expect)


def _host_shortage(e: HostShortage) -> LogLine:
    fields = {**executor_fields(e.executor_name), "part": e.part, "lacks": e.lacks}
    if e.over:
        return LogLine("info", "host_shortage_over", fields, key=(e.executor_name, e.part, e.lacks))
    expect = "no task fails: starts are retried with growing pauses until the host has the resource"
    return LogLine(
        "warning", "host_shortage", {**fields, "reason": e.reason}, expect, (e.executor_name, e.part, e.lacks)
    )


def _host_limit_low(e: HostLimitLow) -> LogLine:
    fields = {
        **executor_fields(e.executor_name),
        "limit": e.limit,
        "allowed": e.allowed,
        "needed": e.needed,
        "slots": e.slots,
    }
    expect = f"{e.slots} programs run at once, others wait; raise the limit, or lower executor.max_executors"
    return LogLine("warning", "host_limit_low", fields, expect)


LINES: Lines = {
    ChildStarted: _child_started,
    ChildEnded: _child_ended,
    ChildLogged: _child_logged,
    ExecutorBreakerChanged: _breaker,
    ExecutorUnguarded: _unguarded,
    HostShortage: _host_shortage,
    HostLimitLow: _host_limit_low,
}
