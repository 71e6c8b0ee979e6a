"""Options that several subcommands share, and what becomes of them."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from drakkar_flow.config.load import Loaded

__all__ = ["AsJson", "Assignments", "ConfigOption", "Flow", "LogFormat", "LogFormatOption", "Verbose", "load_for"]


class LogFormat(StrEnum):
    """The form of log lines."""

    CONSOLE = "console"
    JSON = "json"
    ECS = "ecs"


Flow = Annotated[str, typer.Argument(help="flows/pipeline.py, file.py:NAME or package.module:NAME")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="The YAML file; without it, it is searched for.")
]
Assignments = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Set a key, like kafka.brokers=localhost:9092; repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log at level DEBUG.")]
LogFormatOption = Annotated[
    LogFormat | None, typer.Option("--log-format", help="Form of log lines; without it, logging.format.")
]

_LOGGING = {
    LogFormat.CONSOLE: ["logging.format=console"],
    LogFormat.JSON: ["logging.format=json", "logging.fields=plain"],
    LogFormat.ECS: ["logging.format=json", "logging.fields=ecs"],
}


def load_for(
    found: Any,
    file: Path | None,
    config: Path | None,
    assignments: list[str],
    *,
    verbose: bool = False,
    log_format: LogFormat | None = None,
) -> Loaded:
    """The configuration of a flow that `find_flow` found, with the options of the command laid over it.

    Raises:
        ConfigError: with everything that is wrong with it.
    """
    from drakkar_flow.config.find import find_config
    from drakkar_flow.config.load import load
    from drakkar_flow.engine.terse import app_options

    logging = _LOGGING[log_format] if log_format else []
    logging = [*logging, *(["logging.level=DEBUG"] if verbose else [])]
    return load(find_config(config, os.environ, file), assignments=[*logging, *assignments], **app_options(found))
