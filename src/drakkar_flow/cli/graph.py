"""`drakkar-flow graph`: check and draw a flow."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from drakkar_flow.cli.find import find_flow
from drakkar_flow.errors import ConfigError, Problem

__all__ = ["graph"]


class Format(StrEnum):
    """Output format of a flow."""

    MERMAID = "mermaid"
    JSON = "json"


def graph(
    flow: Annotated[str, typer.Argument(help="flows/pipeline.py, file.py:name or package.module:name")],
    format: Annotated[Format, typer.Option("--format", "-f", help="how to show it")] = Format.MERMAID,  # noqa: A002
) -> None:
    """Check a flow and print it as a Mermaid flowchart or as JSON."""
    from drakkar_flow.engine.entrypoint import stream_of

    found, file = find_flow(flow)
    stream = stream_of(found)
    stream.check()
    for remark in _remarks(found, file):
        typer.echo(f"warning: {remark}", err=True)
    typer.echo(stream.to_mermaid() if format is Format.MERMAID else json.dumps(stream.to_json(), indent=2))


def _remarks(found: Any, file: Path | None) -> list[Problem]:
    """Return the parts of the flow's configuration that the flow does not use; empty without a configuration."""
    from drakkar_flow.config.loading.find import find_config
    from drakkar_flow.config.loading.load import load
    from drakkar_flow.engine.entrypoint import app_options, stream_of
    from drakkar_flow.engine.unused import unused_sinks

    where = find_config(None, os.environ, file)
    if where.path is None:
        return []
    try:
        config = load(where, **app_options(found)).config
    except ConfigError:  # `config lint` reports its errors; the flow can be drawn anyway
        return []
    return unused_sinks(stream_of(found), config)
