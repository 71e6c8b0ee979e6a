"""Logging setup: target, format and level of log lines.

Only the application calls `configure_logging`; before that this library does not change a program's logging.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from drakkar_flow.errors import Problem, StartupError
from drakkar_flow.kernel.redaction import mask
from drakkar_flow.observe.log import console
from drakkar_flow.observe.log.ecs import to_ecs
from drakkar_flow.observe.log.output import FileTarget, LogOutput, StreamTarget
from drakkar_flow.observe.log.structured import structlog
from drakkar_flow.observe.log.values import plain_line

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["LoggingHandle", "configure_logging"]

_HEAD = ("timestamp", "level", "event")
_MAX_STACK = 16 * 1024
_CHATTY = (
    *("httpx", "httpcore", "urllib3", "requests", "aiohttp", "h2", "hpack", "websockets", "grpc"),
    *(
        "pymongo",
        "motor",
        "asyncpg",
        "psycopg",
        "psycopg2",
        "redis",
        "sqlalchemy",
        "elasticsearch",
        "elastic_transport",
    ),
    *("aiokafka", "kafka", "confluent_kafka", "pika", "aio_pika", "boto3", "botocore", "aiobotocore", "s3transfer"),
    *("azure", "google", "opensearch", "cassandra", "asyncio", "concurrent", "charset_normalizer", "filelock"),
)
"""Loggers of client libraries that write lines per request: WARNING unless configured."""


class LoggingHandle:
    """Undoes a `configure_logging`: `close` restores the program's former logging and closes the file."""

    def __init__(self, handler: logging.Handler, levels: Mapping[str, int]) -> None:
        self._handler = handler
        self._levels_before = {name: logging.getLogger(name).level for name in levels}
        self._structlog_before = structlog.get_config() if structlog.is_configured() else None
        logging.getLogger().addHandler(handler)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)

    def close(self) -> None:
        """Flush and undo; safe to call twice."""
        root = logging.getLogger()
        if self._handler not in root.handlers:
            return
        root.removeHandler(self._handler)
        for name, level in self._levels_before.items():
            logging.getLogger(name).setLevel(level)
        self._handler.close()
        structlog.reset_defaults()
        if self._structlog_before is not None:
            structlog.configure(**self._structlog_before)


def configure_logging(
    level: str = "INFO",
    format: Literal["auto", "json", "console"] = "auto",  # noqa: A002  # the configuration's name for it
    output: str = "stderr",
    *,
    worker_id: str,
    consumer_group: str = "",
    cluster_name: str = "",
    service_version: str = "",
    fields: Literal["plain", "ecs"] = "plain",
    levels: Mapping[str, str] | None = None,
    redact: Callable[[str], str] = mask,
    on_lost: Callable[[], object] | None = None,
) -> LoggingHandle:
    """Send all log lines of this process, structlog's and the standard library's, to `output`.

    `output` is `stderr`, `stdout` or a file, opened in append mode; `{worker_id}` and `{cluster_name}` in its path are
    replaced. A line that can't be written is dropped, and `on_lost` called.

    - `json` writes one object per line, in UTF-8: timestamp (ISO 8601, UTC), level, event, worker, and the fields of
      the line. With `fields` `ecs` their names are those of the Elastic Common Schema.
    - `console` is for terminals. `auto` is `console` on a terminal, else `json`.

    Every text passes `redact`. Lines below `level` are dropped; `levels` has the levels of single loggers (`root` is
    the rest). Loggers of client libraries are at WARNING unless named there, or set to another level before.

    Raises:
        StartupError: the file can't be opened; exit code 2.
    """
    who = {"service_name": "drakkar", "service_version": service_version, "worker_id": worker_id}
    who |= {"consumer_group": consumer_group, "cluster_name": cluster_name}
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = LogOutput(_target(output, {"worker_id": worker_id, "cluster_name": cluster_name}), on_lost)
    foreign: list[Processor] = [*shared, structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder()]
    rendering = _rendering(_wanted(format, output), fields, who, redact)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=foreign, processors=rendering))
    thresholds = _thresholds(level, levels or {})
    handle = LoggingHandle(handler, thresholds)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(min(thresholds.values())),
        context_class=dict,
        cache_logger_on_first_use=False,  # a cached logger would outlive the handle
    )
    return handle


def _target(output: str, names: Mapping[str, str]) -> FileTarget | StreamTarget:
    if output in ("stderr", "stdout"):
        return StreamTarget(output, getattr(sys, output))
    for name, value in names.items():
        output = output.replace(f"{{{name}}}", value.replace("/", "_") or "none")
    try:
        return FileTarget(Path(output))
    except OSError as exc:
        problem = Problem(
            "logging.output", f"can't write {output}: {exc.strerror}", "set a file that this user can write"
        )
        raise StartupError([problem], exit_code=2) from exc


def _thresholds(level: str, levels: Mapping[str, str]) -> dict[str, int]:
    """Return the level of each configured logger; "" is the root."""
    numbers = logging.getLevelNamesMapping()
    unset = [name for name in _CHATTY if logging.getLogger(name).level == logging.NOTSET]
    thresholds = {"": numbers[level.upper()]} | {name: max(logging.WARNING, numbers[level.upper()]) for name in unset}
    return thresholds | {"" if name == "root" else name: numbers[each.upper()] for name, each in levels.items()}


def _wanted(format_: str, output: str) -> str:
    """Return `json`, `console`, or `colors` for the console of a terminal."""
    stream = getattr(sys, output) if output in ("stderr", "stdout") else None
    is_terminal = stream is not None and stream.isatty()
    if format_ == "json" or (format_ == "auto" and not is_terminal):
        return "json"
    return "colors" if is_terminal and not os.environ.get("NO_COLOR") else "console"


def _rendering(format_: str, fields: str, who: Mapping[str, str], redact: Callable[[str], str]) -> list[Processor]:
    plain: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        *([_name_error] if fields == "ecs" and format_ == "json" else []),
        structlog.processors.format_exc_info,
        _cut_stack,
        lambda _, __, line: plain_line(line, redact),
    ]
    if format_ != "json":
        return [*plain, lambda _, __, line: console.render(line, color=format_ == "colors")]

    def arrange(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
        head = {name: line.pop(name) for name in _HEAD if name in line}
        return {**head, **{name: value for name, value in who.items() if value}, **line}

    renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    names: list[Processor] = [] if fields == "plain" else [lambda _, __, line: to_ecs(line)]
    return [*plain, arrange, *names, renderer]


def _cut_stack(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Remove the middle of a stack that is too long: there may be many frames, and megabytes of error text."""
    stack = line.get("exception")
    if isinstance(stack, str) and len(stack) > _MAX_STACK:
        half = _MAX_STACK // 2
        line["exception"] = f"{stack[:half]}\n... ({len(stack) - 2 * half} characters left out)\n{stack[-half:]}"
    return line


def _name_error(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Add type and text of a line's exception, before only its text is left."""
    error = line.get("exc_info")
    if error is True:
        error = sys.exception()
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        line.setdefault("error", str(error))
        line["error_type"] = type(error).__name__
    return line
