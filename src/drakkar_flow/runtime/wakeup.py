"""Engine wake-ups: an idle engine thread sleeps until work is finished or records were read."""

from __future__ import annotations

import threading
from contextlib import suppress

__all__ = ["Bell", "EngineWakeup"]


class Bell:
    """Binary semaphore of one engine thread: a ring without a waiting thread ends the next wait at once."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """End the wait, or the next one; returns at once. Callable from any thread and from a signal handler."""
        if self._lock.locked():
            with suppress(RuntimeError):  # another thread was quicker
                self._lock.release()

    def wait(self, timeout_s: float) -> bool:
        """Sleep until the bell rings, at most `timeout_s` seconds; returns whether it rang."""
        return self._lock.acquire(timeout=timeout_s)


class EngineWakeup:
    """Bells of all engine threads of a process. Thread-safe."""

    def __init__(self) -> None:
        self._bells: tuple[Bell, ...] = ()
        self._lock = threading.Lock()
        self.for_room = False
        """True if a source has records and no room for them, so that any progress may make room."""

    def bell(self) -> Bell:
        """Make the bell of one more thread."""
        bell = Bell()
        with self._lock:
            self._bells = (*self._bells, bell)
        return bell

    def wake(self) -> None:
        """Wake every thread that sleeps."""
        for bell in self._bells:
            bell.ring()
