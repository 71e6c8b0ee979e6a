"""Log line: its level, event, fields and what the operator may expect."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

__all__ = ["Level", "LogLine"]

Level = Literal["debug", "info", "warning", "error"]


class LogLine(NamedTuple):
    """One log line: `expect` tells the operator what happens next.

    Lines of one event with the same `key` and `cause` count as repetitions; a key of None is never limited.
    """

    level: Level
    event: str
    fields: dict[str, Any]
    expect: str = ""
    key: tuple[str, ...] | None = None
    cause: str = ""
