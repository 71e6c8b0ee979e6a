"""`drakkar-flow test`: run the YAML cases beside a flow."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drakkar_flow.cli.find import find_flow

if TYPE_CHECKING:
    from drakkar_flow.testing.case_runner import CaseResult

__all__ = ["run_files"]


def run_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="NAME.test.yaml, or folders of such files")],
    keyword: Annotated[str, typer.Option("-k", help="only the cases whose name contains this")] = "",
    junit: Annotated[Path | None, typer.Option("--junit", help="also write the results as JUnit XML")] = None,
) -> None:
    """Run test cases without Kafka: messages in, deliveries compared. Ends with 1 if one fails, 2 if none can run."""
    from drakkar_flow.errors import Problem
    from drakkar_flow.testing import junit as xml
    from drakkar_flow.testing.case_runner import run_cases
    from drakkar_flow.testing.cases import CasesError, read_cases

    began = time.monotonic()
    paths = [path for file in files for path in (sorted(file.rglob("*.test.yaml")) if file.is_dir() else [file])]
    results: list[CaseResult] = []
    for cases in [read_cases(path) for path in paths]:
        typer.echo(str(cases.path))
        for result in run_cases(cases, find_flow, keyword):
            results.append(result)
            _print_result(result)
    if junit is not None:
        try:
            junit.write_text(xml.junit(results), encoding="utf-8")
        except OSError as exc:
            raise CasesError([Problem(str(junit), f"can't be written: {exc.strerror}", "fix --junit")]) from exc
    if not results:
        what = f"no case has {keyword!r} in its name" if paths else "there is no file NAME.test.yaml"
        raise CasesError([Problem(", ".join(map(str, files)), what, "fix the command line")])
    failed = sum(bool(result.problems) for result in results)
    typer.echo(f"{len(results) - failed} passed, {failed} failed in {time.monotonic() - began:.1f} s")
    raise typer.Exit(1 if failed else 0)


def _print_result(result: CaseResult) -> None:
    if not result.problems:
        typer.echo(f"  ok    {result.name}")
        return
    typer.echo(f"  FAIL  {result.name} ({result.where})")
    for line in result.problems:
        typer.echo(f"        {line}")
