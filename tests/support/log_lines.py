"""Log lines as tests look at them: those that a listener writes, and those in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import structlog

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.log.listener import LogListener

__all__ = ["LogScene", "read_lines"]


class Clock:
    """A clock that stands until it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class LogScene:
    """A bus with a listener whose lines are kept as dicts."""

    def __init__(self, burst: int = 2) -> None:
        self.bus = Bus()
        self.clock = Clock()
        self.lines: list[dict[str, Any]] = []
        logger = structlog.wrap_logger(None, processors=[structlog.stdlib.add_log_level, self._keep])
        self.listener = LogListener(logger, burst=burst, interval_s=60.0, clock=self.clock)
        self.listener.listen(self.bus)

    def _keep(self, _: Any, __: str, line: Any) -> Any:
        self.lines.append(dict(line))
        raise structlog.DropEvent


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSON log."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
