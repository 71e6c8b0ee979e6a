"""Stop guard: ends a process whose stop exceeds its budget, because a blocking call can't be cancelled."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from drakkar_flow.runtime.stop_signal import StopSignal

__all__ = ["StopGuard"]

_LOOK_S = 0.25
_GRACE_S = 2.0


class StopGuard:
    """Watches a stop from a thread, from `start` to `close`.

    Two seconds after the budget for drain and close it calls `report` and ends the process with `exit_code`. No further
    offset is committed; the reaper kills programs that still run.
    """

    def __init__(self, control: StopSignal, report: Callable[[], None], exit_code: int) -> None:
        self._control = control
        self._report = report
        self._exit_code = exit_code
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drakkar-stop-guard", daemon=True)

    def start(self) -> None:
        """Start to watch."""
        self._thread.start()

    def close(self) -> None:
        """Stop to watch, because the stop is complete; safe to call twice."""
        self._closing.set()

    def _run(self) -> None:
        while not self._closing.wait(_LOOK_S):
            if self._control.stopping and self._control.stop_budget_s < -_GRACE_S:
                try:
                    self._report()
                finally:
                    os._exit(self._exit_code)
