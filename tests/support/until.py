"""Waiting for what another thread, process or server does, without sleeping for a guessed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

__all__ = ["until"]

T = TypeVar("T")


def until(condition: Callable[[], T], timeout_s: float = 20.0, what: str = "", poll_s: float = 0.02) -> T:
    """Poll `condition` until it gives something true, and return that; fail the test after `timeout_s`.

    Example:
        >>> left = [1, 2, 3]
        >>> until(lambda: left.pop() == 1, what="the list to end")
        True
    """
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() >= deadline:
            pytest.fail(f"waited {timeout_s:g} s for {what or repr(condition)}; last seen: {value!r}")
        time.sleep(poll_s)
    return value
