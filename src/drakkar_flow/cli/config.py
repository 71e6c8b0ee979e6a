"""`drakkar-flow config`: check, show and document the configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from drakkar_flow.cli.options import Assignments
from drakkar_flow.config.docs import json_schema, markdown
from drakkar_flow.config.loading.find import find_config
from drakkar_flow.config.loading.load import AppOptions, Loaded, load
from drakkar_flow.config.schema import root_with
from drakkar_flow.config.show import render_yaml
from drakkar_flow.errors import ConfigError, Problem

__all__ = ["app"]

app = typer.Typer(help="Check, show and document the configuration.", no_args_is_help=True)

File = Annotated[Path | None, typer.Argument(help="The YAML file; without it the one that `run` would find.")]
Target = Annotated[
    str, typer.Option("--flow", "-f", help="file.py:NAME of the flow or handler whose model types the app section")
]


@app.command()
def lint(
    file: File = None,
    flow: Target = "",
    assignments: Assignments = [],  # noqa: B006 - typer's way to say that there is none
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for warnings too, 2 with --flow.")] = False,
) -> None:
    """Check a file, together with the environment, and report all errors with their places.

    Keys that moved and keys that have no effect are warnings; with --strict they count. With --flow the flow is
    checked too, as `drakkar-flow lint FLOW` does.
    """
    if flow and _lint_both(flow, file, assignments, strict=strict):
        return
    loaded = _load(file, flow, assignments)
    if loaded.file.path is None:
        raise ConfigError([Problem("configuration", str(loaded.file), "name the file, or the flow it belongs to")])
    remarks = loaded.notices
    for remark in remarks:
        typer.echo(f"  - {remark}")
    if strict and remarks:
        raise typer.Exit(1)
    typer.echo(f"{loaded.file}: ok")
    typer.echo(f"topics, sinks and programs: drakkar-flow lint FLOW --config {loaded.file.path}", err=True)


@app.command()
def show(file: File = None, flow: Target = "", assignments: Assignments = []) -> None:  # noqa: B006
    """Print the effective configuration, secrets masked, each value with its origin."""
    loaded = _load(file, flow, assignments)
    typer.echo(f"# {loaded.file}\n{render_yaml(loaded)}", nl=False)


@app.command()
def schema(flow: Target = "") -> None:
    """Print the JSON Schema of the configuration file."""
    typer.echo(json_schema(_root(flow)), nl=False)


@app.command()
def docs(flow: Target = "") -> None:
    """Print the configuration reference as Markdown."""
    typer.echo(markdown(_root(flow)), nl=False)


def _lint_both(flow: str, file: Path | None, assignments: list[str], *, strict: bool) -> bool:
    """Lint the file together with its flow; False if `flow` is the class of a handler, which only types `app`."""
    from drakkar_flow.cli.find import find_flow
    from drakkar_flow.cli.lint import check_both, report

    found, flow_file = find_flow(flow)
    if isinstance(found, type):
        return False
    report(*check_both(flow, found, flow_file, file, assignments), strict=strict, as_json=False)
    return True


def _load(file: Path | None, flow: str, assignments: list[str]) -> Loaded:
    options, flow_file = _about(flow)
    return load(find_config(file, os.environ, flow_file), assignments=assignments, **options)


def _root(flow: str) -> Any:
    options, _ = _about(flow)
    return root_with(options.get("app_model"))


def _about(flow: str) -> tuple[AppOptions, Path | None]:
    """Return the flow's settings for loading, and the flow's file; nothing without a flow."""
    if not flow:
        return {}, None
    from drakkar_flow.cli.find import find_flow
    from drakkar_flow.engine.entrypoint import app_options

    found, file = find_flow(flow)
    return app_options(found), file
