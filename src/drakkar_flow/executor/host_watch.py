"""Shortage events of the host: one event when a shortage begins, one when it is over."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.executor import HostShortage

__all__ = ["HostWatch"]

_QUIET_S: Final = 3.0
"""Seconds without a new report after which a shortage is over; longer than any pause between two attempts."""


class HostWatch:
    """Collects reports of shortages and emits HostShortage at each change of state.

    Created on the event loop thread. `part` names the affected part: `executor`, `children`, `offload`.
    """

    def __init__(self, bus: Bus, part: str) -> None:
        self._bus = bus
        self._part = part
        self._loop = asyncio.get_running_loop()
        self._reported_at: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def report(self, lacks: str, reason: str) -> None:
        """Record a shortage of `lacks`; callable from any thread."""
        with suppress(RuntimeError):  # the loop is closed: no subscriber is left
            self._loop.call_soon_threadsafe(self._report, lacks, reason)

    def close(self) -> None:
        """End the timer and the open shortages; on the loop thread."""
        self._end(list(self._reported_at))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _report(self, lacks: str, reason: str) -> None:
        is_new = lacks not in self._reported_at
        self._reported_at[lacks] = self._loop.time()
        if is_new:
            self._bus.emit(HostShortage(self._part, lacks, reason))
        if self._timer is None:
            self._timer = self._loop.call_later(_QUIET_S, self._look)

    def _look(self) -> None:
        quiet_since = self._loop.time() - _QUIET_S
        self._end([lacks for lacks, reported_at in self._reported_at.items() if reported_at <= quiet_since])
        self._timer = self._loop.call_later(_QUIET_S / 3, self._look) if self._reported_at else None

    def _end(self, over: list[str]) -> None:
        for lacks in over:
            del self._reported_at[lacks]
            self._bus.emit(HostShortage(self._part, lacks, "", over=True))
