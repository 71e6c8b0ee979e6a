"""Log lines of executors, their children and the host."""

from __future__ import annotations

from typing import Any

from drakkar_flow.kernel.causes import cause_text
from drakkar_flow.observe import events as ev
from drakkar_flow.observe import executor_events as xev
from drakkar_flow.observe.line import Line

__all__ = [
    "breaker",
    "child_ended",
    "child_logged",
    "child_started",
    "host_limit_low",
    "host_shortage",
    "named",
]


def named(
    e: ev.TaskFellBack
    | xev.ChildStarted
    | xev.ChildEnded
    | xev.ChildLogged
    | xev.ExecutorBreakerChanged
    | xev.ExecutorUnguarded
    | xev.HostShortage
    | xev.HostLimitLow,
) -> dict[str, Any]:
    """The name of the executor, where it has one."""
    return {"executor_name": e.executor_name} if e.executor_name else {}


def child_started(e: xev.ChildStarted) -> Line:
    """The line of this event."""
    return Line(
        "debug", "executor_child_started", {**named(e), "child": e.child, "child_pid": e.pid}, key=(e.executor_name,)
    )


def child_ended(e: xev.ChildEnded) -> Line:
    """The line of this event."""
    fields: dict[str, Any] = {**named(e), "child": e.child, "child_pid": e.pid}
    fields |= {"requests": e.requests, "reason": e.reason}
    fields["lived_s"] = round(e.lived_s, 3)
    if not e.failed:
        return Line("info", "executor_child_ended", fields, key=(e.executor_name,))
    expect = "what it had failed with this reason; another is started after a pause"
    return Line("warning", "executor_child_failed", fields, expect, (e.executor_name,), cause_text(e.reason))


def child_logged(e: xev.ChildLogged) -> Line:
    """The line of this event."""
    fields: dict[str, Any] = {**named(e), "child": e.child, "child_pid": e.pid, "text": "\n".join(e.lines)}
    if e.more:
        fields["more_lines"] = e.more
    return Line("info", "executor_child_stderr", fields, key=(e.executor_name, str(e.child)))


def breaker(e: xev.ExecutorBreakerChanged) -> Line:
    """The line of this event."""
    fields = {**named(e), "mode": e.executor, "state": e.state, "failures": e.failures, "reason": e.reason}
    if e.state == "open":
        what = "child" if e.executor == "persistent" else "program"
        expect = f"no {what} is started but one now and then to see whether it works; tasks wait, or fall back"
        return Line(
            "error", "executor_breaker_open", fields, expect, (e.executor_name, e.executor), cause_text(e.reason)
        )
    return Line("info", f"executor_breaker_{e.state}", fields, key=(e.executor_name, e.executor))


def host_shortage(e: xev.HostShortage) -> Line:
    """The line of this event."""
    fields = {**named(e), "part": e.part, "lacks": e.lacks}
    if e.over:
        return Line("info", "host_shortage_over", fields, key=(e.executor_name, e.part, e.lacks))
    expect = "no task fails by it: starts are tried again with growing pauses until the host has what they need"
    return Line("warning", "host_shortage", {**fields, "reason": e.reason}, expect, (e.executor_name, e.part, e.lacks))


def host_limit_low(e: xev.HostLimitLow) -> Line:
    """The line of this event."""
    fields = {**named(e), "limit": e.limit, "allowed": e.allowed, "needed": e.needed, "slots": e.slots}
    expect = f"{e.slots} programs run at once, and more wait; raise the limit, or lower executor.max_executors"
    return Line("warning", "host_limit_low", fields, expect)
