"""`drakkar-flow config`: check, show and document the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drakkar_flow.config.docs import json_schema, markdown
from drakkar_flow.config.load import load
from drakkar_flow.config.show import render_yaml

__all__ = ["app"]

app = typer.Typer(help="Check, show and document the configuration.", no_args_is_help=True)


@app.command()
def lint(file: Annotated[Path, typer.Argument(help="The YAML file.")]) -> None:
    """Check a file, together with the environment, and report everything that is wrong with its place."""
    load(file)
    typer.echo(f"{file}: ok")


@app.command()
def show(
    file: Annotated[Path | None, typer.Argument(help="The YAML file; DRAKKAR_CONFIG when left out.")] = None,
) -> None:
    """Print the whole configuration as it would be used, secrets masked, each value with its origin."""
    typer.echo(render_yaml(load(file)), nl=False)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file."""
    typer.echo(json_schema(), nl=False)


@app.command()
def docs() -> None:
    """Print the configuration reference as Markdown."""
    typer.echo(markdown(), nl=False)
