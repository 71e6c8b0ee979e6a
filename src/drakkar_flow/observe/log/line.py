"""Log line: level, event, fields, and the consequence that the operator can expect."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

__all__ = ["Level", "LogLine"]

Level = Literal["debug", "info", "warning", "error"]


class LogLine(NamedTuple):
    """One log line; `expect` describes for the operator what happens next.

    Lines of one event with the same `key` and `cause` are repetitions; lines with the key None are never limited.
    """

    level: Level
    event: str
    fields: dict[str, Any]
    expect: str = ""
    key: tuple[str, ...] | None = None
    cause: str = ""
