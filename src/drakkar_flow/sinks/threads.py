"""Work of sinks that block, in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread

__all__ = ["in_thread"]

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *args: object, limiter: anyio.CapacityLimiter) -> T:
    """Call a function in a worker thread; who is cancelled meanwhile waits until it has returned all the same.

    A thread can't be cancelled: to leave it behind would let the next write run beside it.
    """
    work = asyncio.ensure_future(anyio.to_thread.run_sync(function, *args, limiter=limiter))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        raise
