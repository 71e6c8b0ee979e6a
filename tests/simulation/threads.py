"""Threads of the library that block: each is a real thread, of which the scheduler lets one work at a time.

The code of such a thread waits in the middle of its calls, so no function could do its work in small pieces. It goes on
only while `step` is called, up to its next wait, and the caller waits meanwhile. Nothing ever runs beside another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulation.scheduler import Scheduler

__all__ = ["Crash", "SimulatedThread"]


class Crash(BaseException):
    """The process was killed: raised in its threads where they wait."""


class SimulatedThread:
    """A thread as an actor: `step` lets it work up to its next wait."""

    def __init__(self, scheduler: Scheduler, target: Callable[[], Any]) -> None:
        self._scheduler = scheduler
        self._target = target
        self._go = threading.Lock()
        self._back = threading.Lock()
        self._go.acquire()
        self._back.acquire()
        self._thread: threading.Thread | None = None
        self._done: Callable[[], bool] = lambda: True
        self._killed = False
        self.deadline = -inf
        """Time at which its wait ends; -inf if it may go on, inf if it has ended or waits for something else."""
        self.has_ended = False

    def is_ready(self) -> bool:
        """Return True if it may go on."""
        return not self.has_ended and (self._scheduler.now >= self.deadline or self._done())

    def step(self) -> bool:
        """Let it work up to its next wait, or its end."""
        self._scheduler.current = self
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        else:
            self._go.release()
        self._back.acquire()
        self._scheduler.current = None
        return True

    def wait(self, done: Callable[[], bool], timeout_s: float | None) -> bool:
        """Wait, on this very thread; the others go on."""
        if self._killed:
            raise Crash
        self._done, self.deadline = done, inf if timeout_s is None else self._scheduler.now + timeout_s
        self._back.release()
        self._go.acquire()
        if self._killed:
            raise Crash
        return done()

    def kill(self) -> None:
        """End it where it waits, as the end of the process does."""
        self._killed = True
        if self._thread is not None and not self.has_ended:
            self.step()
            self._thread.join()
        self.has_ended, self.deadline = True, inf

    def _run(self) -> None:
        try:
            self._target()
        except Crash:
            pass
        except BaseException as exc:
            self._scheduler.fail(f"no error in a thread: {exc!r}")
        finally:
            self.has_ended, self.deadline = True, inf
            self._back.release()
