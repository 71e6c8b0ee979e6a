"""PostgreSQL errors as texts that quote no values, and as the server's texts."""

from __future__ import annotations

from typing import Any

from drakkar_flow.errors import SinkError, SinkMisconfigured, SinkNotConnected, SinkRejected

__all__ = ["detail_of", "failure_of_error", "is_about_the_server", "is_for_good", "reason_of"]

_NOT_THE_SERVER = ("08", "25006", "57P01", "57P02", "57P03", "57P04", "57P05")
"""SQLSTATEs of a connection that is of no more use: lost, shut down, starting up, or to a server that is read-only now
(https://www.postgresql.org/docs/current/errcodes-appendix.html)."""
_SERVER = (*_NOT_THE_SERVER, "25", "40", "53", "57P", "F0")
"""Classes of the server's state; they concern the whole transaction."""
_FOR_NOW = ("55", "57", "58", "XX")
"""Classes of errors of a single statement that may pass: a lock, a time limit, an internal error."""
_STATEMENT = ("0A", "28", "3D", "3F", "42")
"""Classes about the statement, whatever its values: unknown names, missing rights, missing constraints."""
_FOR_GOOD = ("28", "3D", "42")
"""Classes with which a server refuses a connection until the user changes something."""
_REMEDY = "create the missing object, or grant the right, in the database of sinks.postgres.*.dsn"
_ROW_SECURITY = "ExecWithCheckOptions"

_WORDS_ABOUT_VALUES = ("21", "22", "P0")
"""Classes of SQLSTATE whose messages quote values; P0 are those that functions raise themselves."""
_RAISED = "exec_stmt_raise"


def failure_of_error(error: Exception) -> SinkError:
    """Return the error of a payload for an error of its statement.

    >>> class Missing(Exception): sqlstate = "42P01"
    >>> type(failure_of_error(Missing("relation \\"hits\\" does not exist"))).__name__
    'SinkMisconfigured'
    """
    state = getattr(error, "sqlstate", None) or ""
    reason, detail = reason_of(error), detail_of(error)
    if not state or state.startswith(_NOT_THE_SERVER):
        return SinkNotConnected(reason, detail=detail)
    if state.startswith((*_SERVER, *_FOR_NOW)):
        return SinkError(reason, detail=detail)
    of_the_row = _of(error, "server_source_function") in (_RAISED, _ROW_SECURITY)
    if state.startswith(_STATEMENT) and not of_the_row:
        return SinkMisconfigured(reason, _REMEDY, detail=detail)
    return SinkRejected(reason, detail=detail)


def is_about_the_server(error: Exception) -> bool:
    """Return True if no payload can be to blame, so that the whole transaction must be tried again."""
    state = getattr(error, "sqlstate", None) or ""
    return not state or (state.startswith(_SERVER) and state != "57014")


def is_for_good(error: Exception) -> bool:
    """Return True if a refused connection stays refused until the user changes something."""
    return (getattr(error, "sqlstate", None) or "").startswith(_FOR_GOOD)


def reason_of(error: Exception) -> str:
    """Return the reason for log lines: the error's name, SQLSTATE, table, column and constraint.

    The server's message is added if it names objects of the schema only, never if a function raised it.
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
    """Return the server's text, which may quote the row: message, DETAIL, HINT and the columns' CONTEXT."""
    return str(error) if getattr(error, "sqlstate", None) is not None else ""


def _of(error: Any, field: str) -> Any:
    return getattr(error, field, None)
