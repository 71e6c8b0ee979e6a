"""`drakkar-flow check`: connect to everything that a flow uses, report, and end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from drakkar_flow.cli.find import find_flow
from drakkar_flow.cli.lint import check_both
from drakkar_flow.cli.lint import report as report_lint
from drakkar_flow.cli.options import AsJson, Assignments, ConfigOption, Flow, load_for

if TYPE_CHECKING:
    from drakkar_flow.engine.check import Checked

__all__ = ["check"]


def check(
    flow: Flow,
    config: ConfigOption = None,
    assignments: Assignments = [],  # noqa: B006 - typer's way to say that there is none
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds each part has to answer.")] = 15.0,
    *,
    as_json: AsJson = False,
) -> None:
    """Connect to brokers, sinks and programs, check topics, permissions and targets, and end; nothing is consumed.

    Lints the flow and its settings first. Ends with 0 on success, 1 if a server can't be reached, 2 if a setting or
    a permission is missing. `on_startup` is called, no other hook.
    """
    from drakkar_flow.engine.check import check_flow
    from drakkar_flow.engine.entrypoint import stream_of

    found, file = find_flow(flow)
    title, findings = check_both(flow, found, file, config, assignments)
    if any(finding.is_error for finding in findings):
        report_lint(title, findings, strict=False, as_json=as_json)
    results = check_flow(stream_of(found), load_for(found, file, config, assignments).config, timeout_s)
    _report(results, as_json=as_json)
    raise typer.Exit(max(result.exit_code for result in results))


def _report(results: Sequence[Checked], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([_to_json(result) for result in results], indent=2))
        return
    width = max(len(result.part) for result in results)
    for result in results:
        state = "FAILED" if result.problems else "ok"
        reasons = [str(problem) for problem in result.problems] or [""]
        for reason in reasons:
            typer.echo(f"{state:7}{result.part:{width}}  {reason}".rstrip())
        if result.not_checked:
            typer.echo(f"{'':7}{'':{width}}  not checked: {result.not_checked}")


def _to_json(result: Checked) -> dict[str, object]:
    problems = [{"where": p.where, "what": p.what, "remedy": p.remedy} for p in result.problems]
    return {
        "part": result.part,
        "ok": not result.problems,
        "exit_code": result.exit_code,
        "problems": problems,
        "not_checked": result.not_checked,
    }
