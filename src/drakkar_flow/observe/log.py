"""Logging: how lines are written, and the listener that writes one for what an operator should know.

Nothing here touches a program's logging before `configure_logging` is called, which only the
application does.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from logging.handlers import WatchedFileHandler
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from drakkar_flow.errors import Problem, StartupError
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.ecs import to_ecs
from drakkar_flow.observe.events import Event
from drakkar_flow.observe.limit import RepeatLimit
from drakkar_flow.observe.lines import LINES, Line
from drakkar_flow.observe.vitals import LoopAnswered

__all__ = ["LogListener", "LoggingHandle", "configure_logging"]

_HEAD = ("timestamp", "level", "event")
_MAX_TEXT = 4096
_MAX_STACK = 16 * 1024


class LoggingHandle:
    """Undoes a `configure_logging`: `close` gives the program back the logging it had, and closes the file."""

    def __init__(self, handler: logging.Handler, level: int) -> None:
        root = logging.getLogger()
        self._handler = handler
        self._level_before = root.level
        self._structlog_before = structlog.get_config() if structlog.is_configured() else None
        root.addHandler(handler)
        root.setLevel(level)

    def close(self) -> None:
        """Flush and undo; safe to call twice."""
        root = logging.getLogger()
        if self._handler not in root.handlers:
            return
        root.removeHandler(self._handler)
        root.setLevel(self._level_before)
        self._handler.close()
        structlog.reset_defaults()
        if self._structlog_before is not None:
            structlog.configure(**self._structlog_before)


def configure_logging(
    level: str = "INFO",
    format: Literal["json", "console"] = "json",  # noqa: A002  # the configuration's name for it
    output: str = "stderr",
    *,
    worker_id: str,
    consumer_group: str = "",
    cluster_name: str = "",
    service_version: str = "",
    fields: Literal["plain", "ecs"] = "plain",
) -> LoggingHandle:
    """Send all log lines of this process, structlog's and the standard library's, to `output`.

    `output` is `stderr`, `stdout` or a file, in whose path `{worker_id}` and `{cluster_name}` are
    filled in; the file is appended to, its directories are made, and it is opened anew when a
    log rotation moved it. `json` writes one object per line: timestamp (ISO 8601, UTC), level,
    event, then service_name, service_version, worker_id, consumer_group, cluster_name and what
    the line brings along, or with `fields` `ecs` the same by the names of the Elastic Common
    Schema; `console` is for people. Lines below `level` are dropped.

    Raises:
        StartupError: when the file can't be opened; exit code 2.
    """
    who = {"service_name": "drakkar", "service_version": service_version, "worker_id": worker_id}
    who |= {"consumer_group": consumer_group, "cluster_name": cluster_name}
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = _open(output, {"worker_id": worker_id, "cluster_name": cluster_name})
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder()],
            processors=[ProcessorFormatter.remove_processors_meta, *_rendering(format, fields, handler, who)],
        )
    )
    threshold = logging.getLevelNamesMapping()[level.upper()]
    handle = LoggingHandle(handler, threshold)
    structlog.configure(
        processors=[*shared, ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        context_class=dict,
        cache_logger_on_first_use=False,  # a cached logger would outlive the handle
    )
    return handle


class LogListener:
    """Writes the lines of `lines.LINES` to `logger`, each kind at most `burst` times per `interval_s` seconds.

    What was held back is told as `suppressed` on the next line of the kind, or else by a line
    `lines_suppressed` when the interval is over, at `close` at the latest. Texts are cut at 4 KiB.
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
        """Write a line for what `bus` hands out from now on."""
        for kind, describe in LINES.items():
            bus.listen(kind, self._writer(describe))
        bus.listen(LoopAnswered, lambda _: self._tell_held_back(self._clock()))

    def write(self, line: Line) -> None:
        """Write a line, unless too many like it were written just now."""
        fields = line.fields
        if line.key is not None:
            with self._lock:
                suppressed = self._limit.admit((line.event, *line.key), self._clock())
            if suppressed is None:
                return
            if suppressed:
                fields = {**fields, "suppressed": suppressed}
        if line.expect:
            fields = {**fields, "expect": line.expect}
        fields = {name: _legible(value) if isinstance(value, str) else value for name, value in fields.items()}
        getattr(self._logger, line.level)(line.event, **fields)

    def close(self) -> None:
        """Tell what was held back and not told yet; call it when no more events come."""
        self._tell_held_back(None)

    def _tell_held_back(self, now: float | None) -> None:
        with self._lock:
            waiting = self._limit.turned_away(now)
        for (event, *key), count in waiting.items():
            self._logger.info("lines_suppressed", of=event, key=key, suppressed=count)

    def _writer(self, describe: Callable[[Any], Line | None]) -> Callable[[Event], None]:
        def write(event: Event) -> None:
            line = describe(event)
            if line is not None:
                self.write(line)

        return write


def _open(output: str, names: Mapping[str, str]) -> logging.Handler:
    if output in ("stderr", "stdout"):
        return logging.StreamHandler(getattr(sys, output))
    for name, value in names.items():
        output = output.replace(f"{{{name}}}", value.replace("/", "_") or "none")
    path = Path(output)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return WatchedFileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as exc:
        problem = Problem("logging.output", f"can't write {output}: {exc.strerror}", "name a file this user may write")
        raise StartupError([problem], exit_code=2) from exc


def _rendering(format_: str, fields: str, handler: logging.Handler, who: Mapping[str, str]) -> list[Processor]:
    if format_ == "console":
        colors = isinstance(handler, logging.StreamHandler) and handler.stream.isatty()
        # The default formatter of exceptions prints local variables, secrets included.
        return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)]

    def arrange(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
        head = {name: line.pop(name) for name in _HEAD if name in line}
        return {**head, **{name: value for name, value in who.items() if value}, **line}

    renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    if fields == "plain":
        return [structlog.processors.format_exc_info, _cut_stack, arrange, renderer]
    told: list[Processor] = [_name_error, structlog.processors.format_exc_info, _cut_stack, arrange]
    return [*told, lambda _, __, line: to_ecs(line), renderer]


def _legible(text: str) -> str:
    """Text that can be written and is not too long: its start, and how much is missing."""
    if len(text) > _MAX_TEXT:
        text = f"{text[:_MAX_TEXT]} ... ({len(text) - _MAX_TEXT} characters more)"
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _cut_stack(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Leave the middle out of a stack that is too long: frames may be many, and an error's text megabytes."""
    stack = line.get("exception")
    if isinstance(stack, str):
        if len(stack) > _MAX_STACK:
            half = _MAX_STACK // 2
            stack = f"{stack[:half]}\n... ({len(stack) - 2 * half} characters left out)\n{stack[-half:]}"
        line["exception"] = stack.encode(errors="backslashreplace").decode()
    return line


def _name_error(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Say what the exception of a line is, before only its text is left."""
    error = line.get("exc_info")
    if error is True:
        error = sys.exception()
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        line.setdefault("error", str(error))
        line["error_type"] = type(error).__name__
    return line
