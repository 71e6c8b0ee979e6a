"""structlog without rich: a program that draws tracebacks with rich gets them all the same."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

DRAW = """
import io, sys
from drakkar_flow.observe.log.structured import structlog
assert "rich" not in sys.modules and "rich.console" not in sys.modules
{draw}
assert sys.modules["rich"].__file__
"""
CONSOLE = """
try:
    1 / 0
except ZeroDivisionError:
    out = io.StringIO()
    structlog.dev.ConsoleRenderer(colors=False).exception_formatter(out, sys.exc_info())
assert "Traceback (most recent call last)" in out.getvalue() and "\u256d" in out.getvalue()
"""
LOCALS = """
import structlog.tracebacks
assert structlog.tracebacks.to_repr(list(range(9)), max_length=2) == "[0, 1, ... +7]"
"""


@pytest.mark.parametrize("draw", [CONSOLE, LOCALS], ids=["a traceback on the console", "locals of a frame"])
def test_rich_is_imported_when_it_draws(draw: str) -> None:
    """And not before."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", DRAW.format(draw=draw)], check=True, env=env)
