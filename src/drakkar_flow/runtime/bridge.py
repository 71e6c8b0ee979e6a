"""The bridge: one thread with an event loop, where everything asynchronous of a process runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import ExitStack
from types import TracebackType
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

__all__ = ["Bridge"]

T = TypeVar("T")


class Bridge:
    """A context manager around the loop's thread: entered ready, left joined."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> Bridge:
        portal = self._stack.enter_context(
            start_blocking_portal(backend="asyncio", backend_options={"use_uvloop": True}, name="drakkar-loop")
        )
        self._portal = portal
        self._loop = portal.call(_running_loop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop = None
        self._stack.__exit__(kind, error, trace)

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function` on the loop soon; returns at once. After the loop has ended it does nothing."""
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(function, *args)

    def run(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run `await function(*args)` on the loop and wait for its result."""
        return self._require().call(function, *args)

    def start(self, function: Callable[..., Awaitable[T]], *args: Any) -> Future[T]:
        """Start `function(*args)` on the loop as a task; the future cancels it and has its result."""
        return self._require().start_task_soon(function, *args)

    def _require(self) -> BlockingPortal:
        if self._portal is None or self._loop is None:
            raise RuntimeError("the bridge is not open")
        return self._portal


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()
