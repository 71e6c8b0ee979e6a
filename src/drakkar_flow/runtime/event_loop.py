"""Event loop thread: one thread with an event loop, which runs all asynchronous work of a process."""

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
    """Owns the thread of the loop from `open` to `close`.

    `on_bug` is called with exceptions that posted functions raised, and if the loop ended by itself. Work is lost in
    both cases, so the flow must end visibly. `make_loop` replaces the loop of uvloop.

    The thread is a daemon, so a process whose engine failed still runs its exit handlers, which close the thread.
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
            RuntimeError: the loop could not be started, for example for lack of descriptors.
        """
        self._thread.start()
        self._ready.wait()
        if self._loop is None:
            raise RuntimeError("the event loop could not be started") from self._failure

    def close(self, timeout_s: float | None = None) -> bool:
        """Cancel unfinished work and end the thread; safe to call twice and before `open`.

        Returns True if the thread ended within `timeout_s`. It does not end while a hook blocks the loop or ignores its
        cancellation.
        """
        loop, ended = self._loop, self._ended
        self._loop = None
        if loop is not None and ended is not None:
            with suppress(RuntimeError):  # the loop ended by itself just now
                loop.call_soon_threadsafe(ended.set)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def disown(self, end: Callable[..., object]) -> None:
        """Leave the loop to the parent process after a fork; `end` is called if the loop would go on here."""
        loop, self._loop = self._loop, None
        if loop is not None and threading.current_thread() is self._thread:
            loop.call_soon(end)  # before the loop touches what both processes share
        for name in ("post", "defer", "guard", "start"):
            setattr(self, name, end)

    @property
    def closed(self) -> bool:
        """True if nothing is started any more."""
        return self._loop is None

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function` on the loop soon; returns at once. Does nothing after `close`."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop was closed just now
                loop.call_soon_threadsafe(self.guard, function, *args)

    def defer(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function` in the next turn of the loop: `post` for the loop's thread, at a tenth of the cost."""
        loop = self._loop
        if loop is not None:
            loop.call_soon(self.guard, function, *args)

    def guard(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function` on the loop's thread now; an exception is reported as a bug of the library."""
        try:
            function(*args)
        except (Exception, asyncio.CancelledError) as exc:
            self._report(exc)

    def report(self, exc: BaseException) -> None:
        """Report a bug of the library, from any thread."""
        self._report(exc)

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on the loop; the future has its result and cancels it.

        Raises:
            RuntimeError: the event loop thread is not open.
        """
        if self._loop is None:
            coroutine.close()
            raise RuntimeError("the event loop thread is not open: call open() first")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine on the loop and wait for its result, at most `timeout_s` seconds.

        Raises:
            TimeoutError: the coroutine took longer; it is cancelled.
        """
        future = self.start(coroutine)
        deadline = time.monotonic() + timeout_s if timeout_s is not None else inf
        # In slices: a signal that the system delivers to another thread does not wake a waiting main thread.
        while not wait([future], min(_SLICE_S, max(0.0, deadline - time.monotonic()))).done:
            if time.monotonic() >= deadline:
                future.cancel()
                raise TimeoutError(f"the coroutine took longer than {timeout_s:g} s")
        return future.result()

    def _run(self) -> None:
        # The runner cancels unfinished tasks when `_serve` returns, waits for them and closes the loop.
        try:
            with asyncio.Runner(loop_factory=self._make_loop or uvloop.new_event_loop) as runner:
                try:
                    runner.run(self._serve())
                finally:
                    self._loop = None  # tasks that the runner cancels now have not ended: emit no event for them
        except BaseException as exc:  # a task that a hook started called sys.exit(), for example
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
