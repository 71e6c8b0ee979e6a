"""The client libraries of sinks, which only those install who have such a sink."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from drakkar_flow.errors import Problem, StartupError

__all__ = ["require"]


def require(module: str, where: str, extra: str) -> Any:
    """Import a client library.

    Raises:
        StartupError: it is not installed; exit code 2, and the command that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        remedy = f'install it with: pip install "drakkar-flow[{extra}]"'
        raise StartupError([Problem(where, f"the package {module} is missing", remedy)], exit_code=2) from error
