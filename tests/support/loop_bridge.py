"""A bridge without a thread: its loop is the one the test runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

__all__ = ["LoopBridge"]


class LoopBridge:
    """Everything happens on one thread, step by step; exceptions nobody catches reach the test."""

    closed = False

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function` soon."""
        asyncio.get_running_loop().call_soon(function, *args)

    def guard(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function` now."""
        function(*args)
