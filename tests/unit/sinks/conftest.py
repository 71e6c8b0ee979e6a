"""Sinks live on asyncio's loop."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The one event loop that sinks are written for."""
    return "asyncio"
