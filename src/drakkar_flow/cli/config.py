"""`drakkar-flow config`: check, show and document the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from drakkar_flow.config.docs import json_schema, markdown
from drakkar_flow.config.load import AppOptions, Loaded, load
from drakkar_flow.config.schema import root_with
from drakkar_flow.config.show import render_yaml

__all__ = ["app"]

app = typer.Typer(help="Check, show and document the configuration.", no_args_is_help=True)

Target = Annotated[
    str, typer.Option("--flow", "-f", help="file.py:NAME of the flow or handler whose model types the app section")
]


@app.command()
def lint(
    file: Annotated[Path, typer.Argument(help="The YAML file.")],
    flow: Target = "",
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 when there is anything to say.")] = False,
) -> None:
    """Check a file, together with the environment, and report everything that is wrong with its place.

    Keys that moved and keys that have no effect are told too; with --strict they count.
    """
    loaded = _load(file, flow)
    remarks = loaded.notices
    for remark in remarks:
        typer.echo(f"  - {remark}")
    if strict and remarks:
        raise typer.Exit(1)
    typer.echo(f"{file}: ok")


@app.command()
def show(
    file: Annotated[Path | None, typer.Argument(help="The YAML file; DRAKKAR_CONFIG when left out.")] = None,
    flow: Target = "",
) -> None:
    """Print the whole configuration as it would be used, secrets masked, each value with its origin."""
    typer.echo(render_yaml(_load(file, flow)), nl=False)


@app.command()
def schema(flow: Target = "") -> None:
    """Print the JSON Schema of the configuration file."""
    typer.echo(json_schema(_root(flow)), nl=False)


@app.command()
def docs(flow: Target = "") -> None:
    """Print the configuration reference as Markdown."""
    typer.echo(markdown(_root(flow)), nl=False)


def _load(file: Path | None, flow: str) -> Loaded:
    return load(file, **_app_options(flow))


def _root(flow: str) -> Any:
    return root_with(_app_options(flow).get("app_model"))


def _app_options(flow: str) -> AppOptions:
    """What loading has to know of the flow's own settings; nothing without a flow."""
    if not flow:
        return {}
    from drakkar_flow.cli.find import find_flow
    from drakkar_flow.engine.terse import app_options

    found, _ = find_flow(flow)
    return app_options(found)
