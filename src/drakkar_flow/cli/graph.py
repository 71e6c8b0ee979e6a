"""`drakkar-flow graph`: check a flow and show what it is."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from drakkar_flow.cli.find import find_flow

__all__ = ["graph"]


class Format(StrEnum):
    """How a flow is shown."""

    MERMAID = "mermaid"
    JSON = "json"


def graph(
    flow: Annotated[str, typer.Argument(help="flows/pipeline.py, file.py:name or package.module:name")],
    format: Annotated[Format, typer.Option("--format", "-f", help="how to show it")] = Format.MERMAID,  # noqa: A002
) -> None:
    """Check a flow and print it as a Mermaid flowchart or as JSON."""
    from drakkar_flow.engine.terse import stream_of

    found, _ = find_flow(flow)
    stream = stream_of(found)
    stream.check()
    typer.echo(stream.to_mermaid() if format is Format.MERMAID else json.dumps(stream.to_json(), indent=2))
