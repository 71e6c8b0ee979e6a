"""`drakkar-flow worker`: tools for authors of persistent children."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(help="Try out persistent children.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `check` a subcommand although it is the only one."""


@app.command()
def check(
    command: Annotated[list[str], typer.Argument(help="The worker's command line, after `--`.")],
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds it may take for each step.")] = 10.0,
    binary: Annotated[bool, typer.Option("--binary", help="Also try input that is not text.")] = False,  # noqa: FBT002
) -> None:
    """Start a worker, send it a few tasks and report errors: `... worker check -- CMD ARGS`."""
    from drakkar_flow.testing.worker_check import Broken, check_worker

    try:
        for fact in check_worker(command, timeout_s, binary=binary):
            typer.echo(f"ok      {fact}")
    except (Broken, OSError) as exc:
        what = f"{command[0]}: can't be started: {exc.strerror}" if isinstance(exc, OSError) else str(exc)
        typer.echo(f"wrong   {what}", err=True)
        raise typer.Exit(1) from exc
