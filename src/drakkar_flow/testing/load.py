"""Loading the flow of a file for a test, whatever other files of the same name a test run imports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drakkar_flow.engine.find import find_flow

__all__ = ["load_flow"]


def load_flow(path: str | Path, name: str = "flow") -> Any:
    """Loads `name` of a Python file: what `run_flow` and `FlowHarness` take. The file is executed anew each time.

    Raises:
        FlowError: the file or the name does not exist, or the file can't be imported.
    """
    found, _ = find_flow(f"{path}:{name}")
    return found
