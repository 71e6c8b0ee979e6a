"""`drakkar-flow cluster`: run a flow in several processes on this host."""

from __future__ import annotations

from typing import Annotated

import typer

from drakkar_flow.cli.options import Assignments, ConfigOption, Flow, LogFormatOption, LogOptions, Verbose

__all__ = ["cluster"]


def cluster(
    context: typer.Context,
    flow: Flow,
    count: Annotated[int, typer.Option("--processes", "-n", min=1, max=64, help="Number of processes.")],
    config: ConfigOption = None,
    assignments: Assignments = [],  # noqa: B006 - typer's way to say that there is none
    log_format: LogFormatOption = None,
    *,
    verbose: Verbose = False,
) -> None:
    """Run a flow in N processes on this host, and start all again if one fails.

    The processes share the recovery store (`runtime.recovery`) and find each other on free ports of 127.0.0.1. SIGTERM
    or Ctrl-C drains all of them, a second signal aborts.
    """
    from drakkar_flow.engine.supervisor import Supervisor

    before: LogOptions = context.obj
    logging = LogOptions(verbose or before.verbose, log_format or before.log_format)
    settings = [part for each in [*logging.assignments(), *assignments] for part in ("--set", each)]
    file = [] if config is None else ["--config", str(config)]
    raise typer.Exit(Supervisor(["run", flow, *file, *settings], count).run())
