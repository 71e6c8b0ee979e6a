"""Signal handlers of a worker: set on the main thread, and restored at the end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import Any

__all__ = ["SignalHandlers"]

Handler = Callable[[int, FrameType | None], Any] | int | None


class SignalHandlers:
    """Replaces signal handlers of this process and restores the former ones; has no effect on other threads."""

    def __init__(self) -> None:
        self._former: dict[int, Handler] = {}

    def take(self, handlers: Mapping[int, Handler]) -> None:
        """Set handlers; may be called again to replace them."""
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                self._former.setdefault(number, signal.signal(number, handler))

    def watch_children(self) -> None:
        """Restore SIGCHLD if the parent process ignored it: otherwise exit codes of programs are lost."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            self._former[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def restore(self) -> None:
        """Set the former handlers."""
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._former.items():
                signal.signal(number, handler)
            self._former.clear()

    def disown(self) -> None:
        """Restore the default of termination signals in a forked child, whose only thread is its main thread."""
        with suppress(ValueError):
            for number in self._former.keys() & {signal.SIGTERM, signal.SIGINT}:
                signal.signal(number, self._former[number])
            signal.set_wakeup_fd(-1)
        self._former.clear()
