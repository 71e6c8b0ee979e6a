"""Worker threads for blocking work of sinks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import anyio.to_thread

__all__ = ["in_thread", "to_completion"]

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *args: object, limiter: anyio.CapacityLimiter) -> T:
    """Call a function in a worker thread; a cancelled caller waits until it has returned.

    A thread can't be cancelled: if it was left behind, the next write would run beside it.
    """
    return await to_completion(anyio.to_thread.run_sync(function, *args, limiter=limiter))


async def to_completion(work: Awaitable[T]) -> T:
    """Await work of a thread to its end, however often it is cancelled: the cancellation is raised afterwards."""
    future = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with suppress(asyncio.CancelledError):  # anyio's scopes cancel again and again
                await asyncio.wait({future})
        raise
