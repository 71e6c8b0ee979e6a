"""What happens to executors and their long-lived children."""

from __future__ import annotations

from drakkar_flow.observe.events import Event

__all__ = ["ChildEnded", "ChildLogged", "ChildStarted", "ExecutorBreakerChanged", "ExecutorUnguarded"]


class ChildStarted(Event, frozen=True):
    """A long-lived child runs; it need not be ready yet."""

    child: int
    pid: int
    executor_name: str = ""


class ChildEnded(Event, frozen=True):
    """A long-lived child ended after `requests`; `failed` unless it was meant to end or only ran out of time."""

    child: int
    pid: int
    reason: str
    failed: bool
    requests: int
    lived_s: float
    executor_name: str = ""


class ChildLogged(Event, frozen=True):
    """A long-lived child wrote lines to its stderr, and `more` that are not shown."""

    child: int
    pid: int
    lines: tuple[str, ...]
    more: int = 0
    executor_name: str = ""


class ExecutorBreakerChanged(Event, frozen=True):
    """Children failed too often in a row and none is started (open), one probes (half_open), or they work (closed)."""

    state: str
    failures: int
    reason: str
    executor_name: str = ""


class ExecutorUnguarded(Event, frozen=True):
    """Programs may outlive this process, should it be killed: nobody is there to end them."""

    reason: str
    executor_name: str = ""
