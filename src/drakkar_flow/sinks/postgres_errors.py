"""PostgreSQL's errors in words that quote no values, and in the server's own."""

from __future__ import annotations

from typing import Any

__all__ = ["detail_of", "reason_of"]

_WORDS_ABOUT_VALUES = ("21", "22", "P0")
"""Classes of SQLSTATE whose messages quote values; P0 are what functions raise themselves."""
_RAISED = "exec_stmt_raise"


def reason_of(error: Exception) -> str:
    """What failed, for log lines: the error's name, SQLSTATE, table, column and constraint.

    The server's message is added where it names things of the schema only, never what a function raised.
    """
    state = getattr(error, "sqlstate", None)
    if state is None:
        return f"PostgreSQL: {type(error).__name__}: {error}"
    text = f"PostgreSQL: {type(error).__name__} ({state})"
    if not state.startswith(_WORDS_ABOUT_VALUES) and _of(error, "server_source_function") != _RAISED:
        return f"{text}: {error.args[0] if error.args else error}"
    names = [f"{what} {name}" for what in ("table", "column", "constraint") if (name := _of(error, f"{what}_name"))]
    return f"{text}: {', '.join(names)}" if names else text


def detail_of(error: Exception) -> str:
    """The server's own words, which may quote the row: message, DETAIL, HINT and the columns' CONTEXT."""
    return str(error) if getattr(error, "sqlstate", None) is not None else ""


def _of(error: Any, field: str) -> Any:
    return getattr(error, field, None)
