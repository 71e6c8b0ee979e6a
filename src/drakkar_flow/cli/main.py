"""The `drakkar-flow` command: its subcommands and the handling of errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from drakkar_flow._version import __version__
from drakkar_flow.cli import (
    check,
    cluster,
    config,
    dlq,
    graph,
    init,
    lint,
    recorder,
    recovery,
    run,
    state,
    status,
    test,
    topics,
    worker,
)
from drakkar_flow.cli.options import LogFormatOption, LogOptions, Verbose
from drakkar_flow.errors import DrakkarFlowError, ProblemsError
from drakkar_flow.kernel.redaction import mask

__all__ = ["app", "main"]

app = typer.Typer(
    help="Run external programs on Kafka records and deliver the results to sinks.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

# The subcommands, one module each: a group brings its own Typer (add_typer), a single command is a function
# (`app.command("run")(run.run)`).
app.command("init")(init.init)
app.command("lint")(lint.lint)
app.command("check")(check.check)
app.command("run")(run.run)
app.command("cluster")(cluster.cluster)
app.command("status")(status.status)
app.command("graph")(graph.graph)
app.command("test")(test.run_files)
app.add_typer(topics.app, name="topics")
app.add_typer(config.app, name="config")
app.add_typer(dlq.app, name="dlq")
app.add_typer(recorder.app, name="recorder")
app.add_typer(recovery.app, name="recovery")
app.add_typer(state.app, name="state")
app.add_typer(worker.app, name="worker")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line (of this process unless given) and exits: the console script `drakkar-flow`.

    An error of the library ends it with its message and exit code, without a traceback.
    """
    _write_any_text()
    try:
        app(args=arguments, prog_name="drakkar-flow")
    except DrakkarFlowError as error:
        sys.exit(report(error))


def report(error: DrakkarFlowError) -> int:
    """Prints the error on stderr, in colour on a terminal; returns the exit code."""
    head, newline, rest = mask(str(error)).partition("\n")
    Console(stderr=True, soft_wrap=True).print(Text(head or type(error).__name__, style="bold red") + newline + rest)
    return error.exit_code if isinstance(error, ProblemsError) else 1


def _write_any_text() -> None:
    """Write characters that the locale can't: UTF-8 to files and pipes, escaped to a terminal."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="backslashreplace")
            else:
                stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _show_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it with the option's value
    if asked:
        typer.echo(f"drakkar-flow {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    log_format: LogFormatOption = None,
    *,
    verbose: Verbose = False,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Keeps the options given before a subcommand for it."""
    context.obj = LogOptions(verbose, log_format)


if __name__ == "__main__":
    main()
