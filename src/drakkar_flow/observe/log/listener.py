"""Log listener: writes a line for each event with a log line, and limits repeated ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.stalls import LoopAnswered
from drakkar_flow.observe.log.line import LogLine
from drakkar_flow.observe.log.lines import LINES
from drakkar_flow.observe.log.repeat_limit import RepeatLimit

if TYPE_CHECKING:
    from structlog.typing import WrappedLogger

__all__ = ["LogListener"]

_MAX_TEXT = 4096


class LogListener:
    """Writes the lines of `lines.LINES` to `logger`, at most `burst` of each cause per `interval_s` seconds.

    The first line of each cause is always written; causes beyond 50 per event share one limit. The number of suppressed
    lines is in `suppressed` of the next line with the same cause, or else in a line `lines_suppressed` after the
    interval, at `close` at the latest. Texts are cut at 4 KiB.
    """

    def __init__(
        self,
        logger: WrappedLogger,
        *,
        burst: int = 5,
        interval_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._limit = RepeatLimit(burst, interval_s)
        self._clock = clock
        self._lock = Lock()

    def listen(self, bus: Bus) -> None:
        """Subscribe to `bus` and write the lines of its events from now on."""
        for kind, describe in LINES.items():
            bus.listen(kind, self._writer(describe))
        bus.listen(LoopAnswered, lambda _: self._report_suppressed(self._clock()))

    def write(self, line: LogLine) -> None:
        """Write a line, unless the limit of its key is exhausted."""
        fields = line.fields
        if line.key is not None:
            with self._lock:
                suppressed = self._limit.admit((line.event, *line.key, line.cause), self._clock())
            if suppressed is None:
                return
            if suppressed:
                fields = {**fields, "suppressed": suppressed}
        if line.expect:
            fields = {**fields, "expect": line.expect}
        fields = {name: _cut(value) if isinstance(value, str) else value for name, value in fields.items()}
        getattr(self._logger, line.level)(line.event, **fields)

    def close(self) -> None:
        """Log the suppressed lines that were not reported yet; call it after the last event."""
        self._report_suppressed(None)

    def _report_suppressed(self, now: float | None) -> None:
        with self._lock:
            waiting = self._limit.turned_away(now)
        for (event, *key, cause), count in waiting.items():
            named = {name: value for name, value in (("key", key), ("cause", cause)) if value}
            self._logger.info("lines_suppressed", of=event, **named, suppressed=count)

    def _writer(self, describe: Callable[[Any], LogLine | None]) -> Callable[[Event], None]:
        def write(event: Event) -> None:
            line = describe(event)
            if line is not None:
                self.write(line)

        return write


def _cut(text: str) -> str:
    """Cut a text that is too long, and append the number of missing characters."""
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]} ... ({len(text) - _MAX_TEXT} characters more)"
