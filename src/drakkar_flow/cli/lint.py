"""`drakkar-flow lint`: check a flow and its settings together, without a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drakkar_flow.cli.find import find_flow
from drakkar_flow.cli.options import AsJson, Assignments, ConfigOption, Flow, load_for
from drakkar_flow.errors import ConfigError, FlowError, ProblemsError

if TYPE_CHECKING:
    from drakkar_flow.engine.offline import Finding

__all__ = ["Strict", "check_both", "lint", "report"]

Strict = Annotated[bool, typer.Option("--strict", help="Exit with 2 for warnings too.")]


def lint(
    flow: Flow,
    config: ConfigOption = None,
    assignments: Assignments = [],  # noqa: B006 - typer's way to say that there is none
    *,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Check a flow and its settings together: everything that `run` would refuse without a server.

    Errors go to stderr and end with 2, warnings go to stdout. Nothing is connected and no hook is called.
    """
    from drakkar_flow.engine.offline import Finding

    try:
        found, file = find_flow(flow)
        title, findings = check_both(flow, found, file, config, assignments)
    except FlowError as exc:
        title, findings = flow, [Finding("flow", problem) for problem in exc.problems]
    report(title, findings, strict=strict, as_json=as_json)


def check_both(
    flow: str, found: Any, file: Path | None, config: Path | None, assignments: list[str]
) -> tuple[str, list[Finding]]:
    """Return a description of the check, and the findings about a flow and its configuration.

    Raises:
        FlowError: `found` is no flow.
    """
    from drakkar_flow.engine.entrypoint import stream_of
    from drakkar_flow.engine.offline import Finding, configuration_findings, flow_findings

    stream = stream_of(found)
    findings = list(flow_findings(stream))
    try:
        loaded = load_for(found, file, config, assignments)
    except ConfigError as exc:
        return flow, [*findings, *(Finding("config", problem) for problem in exc.problems)]
    return f"{flow} with {loaded.file}", [*findings, *configuration_findings(stream, loaded)]


def report(title: str, findings: Sequence[Finding], *, strict: bool, as_json: bool) -> None:
    """Print the findings; exits with 2 on errors, or on warnings with `strict`."""
    errors = [finding for finding in findings if finding.is_error]
    warnings = [finding for finding in findings if not finding.is_error]
    if as_json:
        typer.echo(json.dumps([finding.to_json() for finding in (*errors, *warnings)], indent=2))
    else:
        for warning in warnings:
            typer.echo(f"  - warning {warning}")
        if errors:
            typer.echo("\n".join([f"{title}: {_count(errors)}", *(f"  - {error}" for error in errors)]), err=True)
        else:
            typer.echo(f"{title}: ok")
    if errors or (strict and warnings):
        raise typer.Exit(ProblemsError.exit_code)


def _count(errors: Sequence[Finding]) -> str:
    return f"{len(errors)} error{'s' if len(errors) > 1 else ''}"
