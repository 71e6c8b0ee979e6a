"""Calling a user's function, sync or async, at the price of a plain call when it does not wait."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Calls"]

if sys.version_info >= (3, 12):

    def _task(coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any]:
        """Start at once: a coroutine that does not wait has ended when this returns."""
        return asyncio.Task(coroutine, loop=loop, eager_start=True)

else:

    def _task(coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any]:
        return loop.create_task(coroutine)


class Calls:
    """Owns the tasks of one worker's unfinished calls; use it on the loop's thread only."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def call(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        done: Callable[[Any, BaseException | None], None],
    ) -> None:
        """Call `function(*args)` and then `done(value, error)`, at once when nothing had to be waited for."""
        try:
            value = function(*args)
        except Exception as exc:  # the caller turns it into an error value
            done(None, exc)
            return
        if not inspect.isawaitable(value):
            done(value, None)
            return
        self.run(value, done)

    def run(self, awaitable: Any, done: Callable[[Any, BaseException | None], None]) -> asyncio.Task[Any]:
        """Run an awaitable as a task of its own and call `done` when it has ended."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        coroutine = awaitable if inspect.iscoroutine(awaitable) else _await(awaitable)
        task = _task(coroutine, loop)
        if task.done():
            _finish(task, done)
        else:
            self._tasks.add(task)

            def ended(task: asyncio.Task[Any]) -> None:
                self._tasks.discard(task)
                _finish(task, done)

            task.add_done_callback(ended)
        return task

    def cancel(self) -> None:
        """Cancel every call that has not ended."""
        for task in tuple(self._tasks):
            task.cancel()


def _finish(task: asyncio.Task[Any], done: Callable[[Any, BaseException | None], None]) -> None:
    if task.cancelled():
        done(None, asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        done(None, error)
    else:
        done(task.result(), None)


async def _await(awaitable: Any) -> Any:
    return await awaitable
