"""Gate between a test and a flow: the test decides when waiting calls continue."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

__all__ = ["Gate"]


class Gate:
    """Open at first; while it is shut, `passage` waits. Opened and shut from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shut = False
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    @property
    def waiting(self) -> int:
        """Number of calls that wait at the gate now."""
        with self._lock:
            return sum(not future.done() for _, future in self._waiting)

    def shut(self) -> None:
        """Shut the gate for later calls."""
        with self._lock:
            self._shut = True

    def open(self) -> None:
        """Open the gate for waiting and later calls."""
        with self._lock:
            self._shut = False
            waiting, self._waiting = self._waiting, []
        for loop, future in waiting:
            with suppress(RuntimeError):  # the loop was closed: the flow ended while it waited
                loop.call_soon_threadsafe(_let_go, future)

    async def passage(self) -> None:
        """Return when the gate is open."""
        with self._lock:
            if not self._shut:
                return
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()
            self._waiting.append((loop, future))
        await future


def _let_go(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
