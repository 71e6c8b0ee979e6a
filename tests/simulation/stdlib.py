"""Stand-ins for `threading`, `queue` and `time` in the library's modules, which let the scheduler decide.

The modules of the library call `threading.Lock()` and `time.monotonic()`. While a simulation runs, these names lead
here; other modules of the process keep the real ones.
"""

from __future__ import annotations

import queue
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from simulation.scheduler import Scheduler

__all__ = ["replaced"]

_BLOCKING = frozenset({"drakkar-state", "drakkar-restore"})
"""Threads that block in the middle of their work."""


class _Lock:
    """A lock as a critical section (`with`), or as a binary semaphore (`acquire` and `release`)."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._taken = False

    def __enter__(self) -> bool:
        self._scheduler.acquired()
        return True

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._scheduler.released()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it if it is free; a thread that would sleep comes back at once, as after a spurious wake-up."""
        free = not self._taken
        self._taken = True
        return free

    def release(self) -> None:
        """Give it back."""
        self._taken = False

    def locked(self) -> bool:
        """Return True if it is taken."""
        return self._taken


class _Condition(_Lock):
    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a notification, or some steps: conditions are checked again by those who wait."""
        self._taken = True
        return self._scheduler.wait(lambda: not self._taken, timeout)

    def notify_all(self) -> None:
        """Wake those who wait."""
        self._taken = False


class _Event:
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._is_set = False

    def set(self) -> None:
        """Set it."""
        self._is_set = True

    def clear(self) -> None:
        """Clear it."""
        self._is_set = False

    def is_set(self) -> bool:
        """Return True if it is set."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set."""
        return self._scheduler.wait(self.is_set, timeout)


class _Queue:
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._items: deque[Any] = deque()

    def put(self, item: Any) -> None:
        """Add an item."""
        self._items.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Wait for an item."""
        self._scheduler.wait(lambda: bool(self._items), timeout)
        return self.get_nowait()

    def get_nowait(self) -> Any:
        """Return an item."""
        if not self._items:
            raise queue.Empty
        return self._items.popleft()


class Queue:
    """Stand-in for the module `queue`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def SimpleQueue(self) -> _Queue:  # noqa: N802 - the name it stands for
        """Make a queue."""
        return _Queue(self._scheduler)

    def __getattr__(self, name: str) -> Any:
        return getattr(queue, name)


class _Thread:
    """A thread that has no thread: `start` notes its function, which the simulation calls, or gives it to `spawn`."""

    def __init__(self, threads: Threading, target: Callable[..., Any], name: str) -> None:
        self._threads = threads
        self._target = target
        self._name = name
        self.ident: int | None = None

    def start(self) -> None:
        """Let the simulation call the function."""
        self.ident = threading.get_ident()
        if self._name in _BLOCKING:
            self._threads.scheduler.spawn(self._target)
        else:
            self._threads.threads[self._name] = self._target

    def join(self, timeout: float | None = None) -> None:
        """Do nothing: the frames below this one end when this one has."""

    def is_alive(self) -> bool:
        """Return False: nothing runs beside the caller."""
        return False


class Threading:
    """Stand-in for the module `threading`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.threads: dict[str, Callable[[], Any]] = {}
        """Functions of the threads that were started, by name."""
        self.scheduler = self._scheduler = scheduler

    def Lock(self) -> _Lock:  # noqa: N802 - the name it stands for
        """Make a lock."""
        return _Lock(self._scheduler)

    RLock = Lock

    def Condition(self) -> _Condition:  # noqa: N802
        """Make a condition."""
        return _Condition(self._scheduler)

    def Event(self) -> _Event:  # noqa: N802
        """Make an event."""
        return _Event(self._scheduler)

    def Thread(  # noqa: N802
        self, *, target: Callable[..., Any], name: str = "", daemon: bool = False, args: tuple[Any, ...] = ()
    ) -> _Thread:
        """Make a thread."""
        return _Thread(self, target, name)

    def __getattr__(self, name: str) -> Any:
        return getattr(threading, name)


class Time:
    """Stand-in for the module `time`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def monotonic(self) -> float:
        """Return the simulated time."""
        return self._scheduler.now

    def time(self) -> float:
        """Return the simulated wall clock."""
        return self._scheduler.now + self._scheduler.wall_offset_s

    def sleep(self, seconds: float) -> None:
        """Let a thread that blocks sleep; return at once elsewhere, as if others had needed the time."""
        if self._scheduler.current is not None:
            self._scheduler.wait(lambda: False, seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@contextmanager
def replaced(scheduler: Scheduler) -> Iterator[Threading]:
    """Replace `threading`, `queue`, `time` and the generator of `random` in the library, as long as the block lasts."""
    stand_ins = Threading(scheduler)
    by_name = {
        "threading": (threading, stand_ins),
        "queue": (queue, Queue(scheduler)),
        "time": (time, Time(scheduler)),
    }
    changed = [
        (module, name, real, stand_in)
        for module_name, module in sys.modules.items()
        if module_name.startswith("drakkar_flow.") and not module_name.startswith("drakkar_flow.testing")
        for name, (real, stand_in) in by_name.items()
        if vars(module).get(name) is real
    ]
    state = random.getstate()
    random.seed(scheduler.chance.random())
    for module, name, _, stand_in in changed:
        setattr(module, name, stand_in)
    try:
        yield stand_ins
    finally:
        for module, name, real, _ in changed:
            setattr(module, name, real)
        random.setstate(state)
