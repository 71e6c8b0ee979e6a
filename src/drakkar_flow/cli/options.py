"""Options that several subcommands share, and their conversion to settings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from drakkar_flow.config.loading.load import Loaded

__all__ = [
    "AsJson",
    "Assignments",
    "ConfigOption",
    "Flow",
    "LogFormat",
    "LogFormatOption",
    "LogOptions",
    "Verbose",
    "load_for",
]


class LogFormat(StrEnum):
    """The form of log lines."""

    CONSOLE = "console"
    JSON = "json"
    ECS = "ecs"


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Options about log lines, as they may also stand before the subcommand."""

    verbose: bool = False
    log_format: LogFormat | None = None

    def assignments(self) -> list[str]:
        """Return their settings, in the form of `--set`."""
        return [*_LOGGING.get(self.log_format, []), *(["logging.level=DEBUG"] if self.verbose else [])]


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

_LOGGING: dict[LogFormat | None, list[str]] = {
    LogFormat.CONSOLE: ["logging.format=console"],
    LogFormat.JSON: ["logging.format=json", "logging.fields=plain"],
    LogFormat.ECS: ["logging.format=json", "logging.fields=ecs"],
}


def load_for(
    found: Any,
    file: Path | None,
    config: Path | None,
    assignments: list[str],
) -> Loaded:
    """Load the configuration of a flow that `find_flow` found, overridden by the assignments.

    Raises:
        ConfigError: with all errors.
    """
    from drakkar_flow.config.loading.find import find_config
    from drakkar_flow.config.loading.load import load
    from drakkar_flow.engine.entrypoint import app_options

    return load(find_config(config, os.environ, file), assignments=assignments, **app_options(found))
