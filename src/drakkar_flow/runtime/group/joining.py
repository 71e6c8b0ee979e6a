"""Joining: the wait of a member for its first partitions, logged when it takes long."""

from __future__ import annotations

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.source import AssignmentAwaited

__all__ = ["Joining"]

_SAY_AFTER_S = 5.0


class Joining:
    """Emits one AssignmentAwaited per join that gives no partition within 5 s; for the reader's thread alone.

    A rebalance waits for members that drain. It also waits for a member that ended without leaving, until its session
    ends.
    """

    def __init__(self, bus: Bus, group: str, session_timeout_s: float) -> None:
        self._bus = bus
        self._group = group
        self._session_timeout_s = session_timeout_s
        self._since: float | None = None

    def begin(self, now: float) -> None:
        """Note that partitions are awaited from now on."""
        self._since = now

    def end(self) -> None:
        """Note that there are partitions."""
        self._since = None

    def check(self, now: float) -> None:
        """Emit the event if the join has taken long."""
        if self._since is not None and now - self._since >= _SAY_AFTER_S:
            waited_s, self._since = now - self._since, None
            self._bus.emit(AssignmentAwaited(self._group, waited_s, self._session_timeout_s))
