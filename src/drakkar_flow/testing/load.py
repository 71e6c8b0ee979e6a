"""Loader of a flow from a file for a test, independent of other files with the same name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drakkar_flow.engine.find import find_flow

__all__ = ["load_flow"]


def load_flow(path: str | Path, name: str = "flow") -> Any:
    """Load `name` of a Python file, for `run_flow` and `FlowHarness`. The file is executed each time.

    Raises:
        FlowError: the file or the name does not exist, or the file can't be imported.
    """
    found, _ = find_flow(f"{path}:{name}")
    return found
