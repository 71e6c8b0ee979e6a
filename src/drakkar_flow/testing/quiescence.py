"""Quiescence: detects that a flow can do nothing more without time passing or new input."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.runtime.steps.chain import Chain
from drakkar_flow.testing.reader import MemoryReader

__all__ = ["Quiescence", "WatchedInFlight", "WatchedLoopThread"]

_TURNS = 4  # of the source, per worker thread: items between two steps arrive within one or two


class WatchedLoopThread(EventLoopThread):
    """Event loop thread that counts the calls posted to its loop."""

    def __init__(
        self,
        on_bug: Callable[[BaseException], None] | None = None,
        make_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None:
        super().__init__(on_bug, make_loop)
        self.posts = 0

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        """Count the call, and post it."""
        self.posts += 1
        super().post(function, *args)

    def defer(self, function: Callable[..., Any], *args: Any) -> None:
        """Count the call, and defer it."""
        self.posts += 1
        super().defer(function, *args)


class WatchedInFlight(InFlight):
    """Records in flight that count the turns of the source, which asks for room in each."""

    turns = 0

    @property
    def room(self) -> int:
        """Return the number of records that may enter."""
        self.turns += 1
        return super().room

    def end(self) -> None:
        """Note that no more records will enter."""
        self.turns += 1
        super().end()


class _Seen(NamedTuple):
    """Values that change with every progress."""

    arrived: int
    posts: int
    entered: int
    finished: int


class Quiescence:
    """Quiescence of a flow: no item is between the steps, and no progress was made for some turns of the engine.

    It counts turns rather than time, so that a slow machine makes a test slow and not wrong.
    """

    def __init__(
        self,
        reader: MemoryReader,
        loop_thread: WatchedLoopThread,
        in_flight: WatchedInFlight,
        chains: Sequence[Chain],
        workers: int,
    ) -> None:
        self._reader = reader
        self._loop_thread = loop_thread
        self._in_flight = in_flight
        self._chains = chains
        self._keyed_queue = _TURNS * (workers if workers == 1 else 2 * workers)
        self._seen = _Seen(-1, -1, -1, -1)
        self._since = 0

    def __call__(self) -> bool:
        in_flight = self._in_flight
        turns = in_flight.turns
        seen = _Seen(
            self._reader.arrived, self._loop_thread.posts, in_flight.records + in_flight.finished, in_flight.finished
        )
        if seen != self._seen or any(chain.has_results for chain in list(self._chains)):
            self._seen = seen
            self._since = turns
            return False
        if turns >= self._since + self._keyed_queue:
            return True
        in_flight.engine.wake()  # it sleeps: another turn shows that there is nothing to do
        return False
