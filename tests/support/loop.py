"""Workers on the test's own loop: everything happens on one thread, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from drakkar_flow.runtime.bridge import Bridge

__all__ = ["LoopBridge"]


class LoopBridge(Bridge):
    """A bridge to the running loop instead of one of its own; what breaks raises in the test's loop."""

    @property
    def closed(self) -> bool:
        """Never: the test's loop is there as long as the test."""
        return False

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function` soon."""
        asyncio.get_running_loop().call_soon(function, *args)

    defer = post
