"""Clock that a test moves: pauses, lingers, back-offs and timeouts of a flow run on it and take no real time."""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from contextvars import Context
from math import inf
from typing import TypeVar, TypeVarTuple
from weakref import WeakSet

from drakkar_flow.engine.periodics import PERIODIC

__all__ = ["MOMENT_S", "FakeClock"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MOMENT_S = 1e-7
"""A pause so short ends when nothing else can happen, and takes no time of the clock."""
_RESOLUTION_S = MOMENT_S / 4  # of the loop: timers due now
_MOMENTS_S = 10 * MOMENT_S  # likewise, when nothing else can happen: moments are over

_MADE_AT = 1_800_000_000.0
_CHECK_S = 0.001  # real seconds between two checks whether all else is idle
_PATIENCE_S = 20.0  # real seconds after which a clock that can't be moved is a failed test


class FakeClock:
    """Time of a flow's event loop, in seconds since the clock was made.

    The clock stands unless the test waits: in `advance`, or in one of the kit's waits. Then it jumps to the next timer
    whenever nothing else can happen without time passing: the loop, the engine and every thread that a hook started are
    idle.

    While a hook waits for real input or output (a socket, a child process) the clock does not jump; use `clock="real"`
    there. Measurements with `time.monotonic`, such as durations in events, use real time.

    >>> clock = FakeClock()
    >>> clock.advance(2.5)
    >>> clock.now
    2.5
    """

    def __init__(self) -> None:
        self.now = 0.0
        """Present time."""
        self.jumps: list[float] = []
        """Pauses that were jumped over, in seconds, in order."""
        self._changed = threading.Condition()
        self.stands = True
        """True if the clock moves only by `advance`; else it jumps where it may."""
        self.spent = False
        """True if time may pass, but no timer is left."""
        self.idle_jumps = 0
        """Number of pauses in a row that the clock jumped over and that only ran periodic functions."""
        self.question = 0
        """Counts the requests to jump that the clock has made to the waiting test; see `running`."""
        self._answered = self._asked = False
        self._moment = -1.0  # the time of the moment that was just over; negative once something has happened
        self._asks: list[Callable[[], None]] = []
        self._waiting = 0
        self._target = 0.0
        self._loop: _Loop | None = None
        self._is_still: Callable[[], bool] = bool

    def time(self) -> float:
        """Return the seconds since the epoch: the clock was made on 15 January 2027."""
        return _MADE_AT + self.now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass: every timer due fires in order, at its time. Returns afterwards.

        Raises:
            ValueError: `seconds` is negative.
            AssertionError: the flow does not come to rest within 20 real seconds.
        """
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds:g} s")
        with self._changed:
            if self._loop is None or self._loop.is_closed():
                self.now += seconds
                return
            self._go(self.now + seconds)
            if not self._changed.wait_for(lambda: self.stands, _PATIENCE_S):
                why = "a hook waits for a thread or a socket" if self.waits_for_reality else "the flow does not rest"
                raise AssertionError(f"the clock could not advance by {seconds:g} s: {why}")

    @contextmanager
    def running(self, ask: Callable[[], None] | None = None) -> Iterator[None]:
        """Let time pass by itself as long as the block lasts.

        With `ask` the clock calls it before it jumps to a periodic function that is the only thing still due. It jumps
        only after `go_on`: the block may have got its result without having noticed yet.
        """
        with self._changed:
            if ask is not None:
                self._asks.append(ask)
            self._waiting += 1
            if self._loop is not None:
                self._go(inf)
        try:
            yield
        finally:
            with self._changed:
                if ask is not None:
                    self._asks.remove(ask)
                self._waiting -= 1
                if not self._waiting:
                    self._target = self.now
                    self.stands = True

    def go_on(self, question: int) -> None:
        """Answer a request of `ask`: the waiting test has got no result."""
        with self._changed:
            self._answered = self._answered or (self._asked and question == self.question)

    # --- called by a run of the flow -----------------------------------------------------------------

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Make an event loop that uses this clock."""
        self._target = self.now
        self.stands = True
        self._is_still = lambda: True
        self._loop = _Loop(self)
        return self._loop

    def watch(self, is_still: Callable[[], bool]) -> None:
        """From now on, let time pass only if `is_still` reports that nothing else goes on."""
        self._is_still = is_still

    def release(self) -> None:
        """Let time pass by itself, because the loop ends: no hook that pauses delays the end."""
        with self._changed:
            self._is_still = lambda: True
            if self._loop is not None:
                self._go(inf)
                self._loop = None

    @property
    def waits_for_reality(self) -> bool:
        """True if a hook waits for a thread, a socket or a child process, so that the clock stands."""
        return self._loop is not None and self._loop.waits_for_reality

    def _go(self, target: float) -> None:
        self._target = target
        self.stands = self.spent = False
        self.idle_jumps = 0
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop was closed just now
                self._loop.call_soon_threadsafe(bool)  # it may sleep; now it must check

    def jump(self, pause_s: float | None) -> bool:
        """Jump over a pause of the loop (None: it has no timer), if allowed; returns True if it did."""
        if self.stands or not self._is_still():
            self.moved()
            return False
        with self._changed:
            left = self._target - self.now
            if left <= 0:
                self.stands = True
                self._changed.notify_all()
                return False
            step = left if pause_s is None else min(pause_s, left)
            if MOMENT_S / 2 < step < MOMENT_S * 2 and self._moment != self.now + step:
                self._moment = self.now + step
                return True  # else its timer came and waits on, for this very time: no moment, but a pause as short
            self.spent = step == inf
            if self.spent:
                return False
            idle = self._loop is not None and not self._loop.has_timers
            asks = list(self._asks) if idle and not self._answered else []
            if not asks:
                self.idle_jumps = self.idle_jumps + 1 if idle else 0
                self.now = self._target if step == left else self.now + step
                self.jumps.append(step)
                self._answered = self._asked = False
                return True
            if not self._asked:
                self._asked = True
                self.question += 1
        for ask in asks:
            ask()
        return False

    def moved(self) -> None:
        """Note activity on the loop: earlier answers do not count."""
        self.spent = self._answered = self._asked = False
        self._moment = -1.0


class _Selector(selectors.DefaultSelector):
    """Waits for files as every selector does, but for the time by the clock."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock
        self.threads = 0
        self.resolution = _RESOLUTION_S
        """Seconds by which a timer may be early and is due anyway, until the next select."""

    @property
    def waits_for_reality(self) -> bool:
        """True if threads or files may still wake the loop; one file belongs to the loop itself."""
        return self.threads > 0 or len(self.get_map() or ()) > 1  # no map: it was closed

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.resolution = _RESOLUTION_S
        ready = super().select(0)
        if ready:
            self._clock.moved()
        if timeout is not None and timeout <= 0:
            return ready
        while not ready and (self.waits_for_reality or not self._clock.jump(timeout)):
            ready = super().select(None if self._clock.stands else _CHECK_S)
            if ready or self.waits_for_reality:
                self._clock.moved()
        if not ready:
            self.resolution = _MOMENTS_S
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._files = _Selector(clock)
        self._timers: WeakSet[asyncio.TimerHandle] = WeakSet()
        super().__init__(self._files)

    @property
    def waits_for_reality(self) -> bool:
        return self._files.waits_for_reality

    @property
    def _clock_resolution(self) -> float:
        return self._files.resolution

    @_clock_resolution.setter
    def _clock_resolution(self, _seconds: float) -> None:
        """Fixed resolution of the clock; the base class reads the system's."""

    def time(self) -> float:
        return self._clock.now

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = super().call_at(when, callback, *args, context=context)
        task = asyncio.current_task(self)
        if task is None or not task.get_name().startswith(PERIODIC):
            self._timers.add(timer)
        return timer

    @property
    def has_timers(self) -> bool:
        """True if a timer is set that no periodic function waits for."""
        return any(timer.when() > self._clock.now and not timer.cancelled() for timer in self._timers)

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        self._files.threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _future: asyncio.Future[T]) -> None:
        self._files.threads -= 1
