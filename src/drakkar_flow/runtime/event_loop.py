"""The bridge: one thread with an event loop, where everything asynchronous of a process runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from contextlib import suppress
from math import inf
from typing import Any, TypeVar

import uvloop

__all__ = ["EventLoopThread"]

T = TypeVar("T")

_SLICE_S = 0.2


class EventLoopThread:
    """Owns the loop's thread from `open` to `close`.

    `on_bug` hears of exceptions that nobody catches in what was posted, and of a loop that ended by
    itself: work is lost then, so the flow has to end visibly. `make_loop` makes another loop than uvloop's.

    The thread is a daemon, so that a process whose engine failed can still run its exit handlers,
    which close the bridge.
    """

    def __init__(
        self,
        on_bug: Callable[[BaseException], None] | None = None,
        make_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None:
        self._on_bug = on_bug
        self._make_loop = make_loop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="drakkar-loop", daemon=True)

    def open(self) -> None:
        """Start the thread; returns when the loop runs.

        Raises:
            RuntimeError: when there can't be a loop, for want of descriptors say.
        """
        self._thread.start()
        self._ready.wait()
        if self._loop is None:
            raise RuntimeError("the event loop could not be started") from self._failure

    def close(self, timeout_s: float | None = None) -> bool:
        """Cancel what still runs and end the thread; safe to call twice and before `open`.

        Returns whether it ended within `timeout_s`: not while a hook blocks the loop or ignores its
        cancellation.
        """
        loop, ended = self._loop, self._ended
        self._loop = None
        if loop is not None and ended is not None:
            with suppress(RuntimeError):  # it ended by itself just now
                loop.call_soon_threadsafe(ended.set)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def disown(self, end: Callable[..., object]) -> None:
        """Leave the loop to the process that this one was forked from; `end` is called if it would go on here."""
        loop, self._loop = self._loop, None
        if loop is not None and threading.current_thread() is self._thread:
            loop.call_soon(end)  # before the loop touches what both processes share
        for name in ("post", "defer", "guard", "start"):
            setattr(self, name, end)

    @property
    def closed(self) -> bool:
        """Whether nothing is to be started any more."""
        return self._loop is None

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function` on the loop soon; returns at once. After `close` it does nothing."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it was closed just now
                loop.call_soon_threadsafe(self.guard, function, *args)

    def defer(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function` in the loop's next turn: `post` for the loop's own thread, which costs a tenth."""
        loop = self._loop
        if loop is not None:
            loop.call_soon(self.guard, function, *args)

    def guard(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function` on the loop's thread now; an exception it raises is a bug of ours."""
        try:
            function(*args)
        except (Exception, asyncio.CancelledError) as exc:
            self._report(exc)

    def report(self, exc: BaseException) -> None:
        """Report a bug of ours, from any thread."""
        self._report(exc)

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on the loop; the future has its result and cancels it.

        Raises:
            RuntimeError: when the bridge is not open.
        """
        if self._loop is None:
            coroutine.close()
            raise RuntimeError("the bridge is not open")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine on the loop and wait for its result, at most `timeout_s` seconds.

        Raises:
            TimeoutError: when it took longer; it is cancelled.
        """
        future = self.start(coroutine)
        deadline = time.monotonic() + timeout_s if timeout_s is not None else inf
        # In slices: a signal that the system hands to another thread wakes no waiting main thread.
        while not wait([future], min(_SLICE_S, max(0.0, deadline - time.monotonic()))).done:
            if time.monotonic() >= deadline:
                future.cancel()
                raise TimeoutError(f"it took longer than {timeout_s:g} s")
        return future.result()

    def _run(self) -> None:
        # The runner cancels what is left when `_serve` returns, waits for it and closes the loop.
        try:
            with asyncio.Runner(loop_factory=self._make_loop or uvloop.new_event_loop) as runner:
                try:
                    runner.run(self._serve())
                finally:
                    self._loop = None  # what the runner cancels now has not ended: nobody is to be told
        except BaseException as exc:  # a task that a hook started called sys.exit(), say
            self._failure = exc
            self._report(exc)
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._ready.set()
        await self._ended.wait()

    def _report(self, exc: BaseException) -> None:
        if self._on_bug is None:
            raise exc
        self._on_bug(exc)
