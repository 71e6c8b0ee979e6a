"""Events of executors, their long-lived children and the host they run on."""

from __future__ import annotations

from drakkar_flow.observe.events.base import Event

__all__ = [
    "ChildEnded",
    "ChildLogged",
    "ChildStarted",
    "ExecutorBreakerChanged",
    "ExecutorUnguarded",
    "HostLimitLow",
    "HostShortage",
]


class ChildStarted(Event, frozen=True):
    """A long-lived child was started; it may not be ready yet."""

    child: int
    pid: int
    executor_name: str = ""


class ChildEnded(Event, frozen=True):
    """A long-lived child ended after `requests`; `failed` unless it was asked to end or exceeded a time limit."""

    child: int
    pid: int
    reason: str
    failed: bool
    requests: int
    lived_s: float
    executor_name: str = ""


class ChildLogged(Event, frozen=True):
    """A long-lived child wrote lines to its stderr; `more` further lines are not shown."""

    child: int
    pid: int
    lines: tuple[str, ...]
    more: int = 0
    executor_name: str = ""


class ExecutorBreakerChanged(Event, frozen=True):
    """The circuit breaker of an executor's starts changed: nothing is started (open), one start probes (half_open), or
    starts work (closed).

    `executor` is the mode: `persistent` starts children, `oneshot` the configured program.
    """

    state: str
    failures: int
    reason: str
    executor: str = "persistent"
    executor_name: str = ""


class HostShortage(Event, frozen=True):
    """The host lacks a resource that `part` needs to start programs or threads, or has it again (`over`).

    `lacks` is `descriptors`, `processes`, `memory`, `space` or `time`.
    """

    part: str
    lacks: str
    reason: str
    over: bool = False
    executor_name: str = ""


class HostLimitLow(Event, frozen=True):
    """A limit of this process is too low for all slots; only `slots` programs run at once."""

    limit: str
    allowed: int
    needed: int
    slots: int
    executor_name: str = ""


class ExecutorUnguarded(Event, frozen=True):
    """The reaper does not run: programs outlive this process if it is killed."""

    reason: str
    executor_name: str = ""
