"""`drakkar-flow run`: run a flow until a signal stops it."""

from __future__ import annotations

from typing import Annotated

import typer

from drakkar_flow.cli.find import find_flow
from drakkar_flow.cli.options import Assignments, ConfigOption, Flow, LogFormatOption, LogOptions, Verbose, load_for

__all__ = ["run"]


def run(
    context: typer.Context,
    flow: Flow,
    config: ConfigOption = None,
    assignments: Assignments = [],  # noqa: B006 - typer's way to say that there is none
    log_format: LogFormatOption = None,
    *,
    process: Annotated[
        int | None, typer.Option("--process-id", "-i", metavar="N", help="Place of this process in a cluster, from 0.")
    ] = None,
    addresses: Annotated[
        str | None, typer.Option("--addresses", "-a", metavar="A;B", help="host:port of each process of the cluster.")
    ] = None,
    verbose: Verbose = False,
    check: Annotated[bool, typer.Option("--check", help="Connect to everything, report, and end: `check`.")] = False,
) -> None:
    """Run a flow; SIGTERM or Ctrl-C drains it, a second signal aborts.

    Without --config the settings are in the file that DRAKKAR_CONFIG (or DK_CONFIG) names, else beside the flow in
    NAME.yaml (of NAME.py) or drakkar.yaml, else in drakkar.yaml in the working directory; each may end in .yml.
    """
    assignments = [*assignments, *_cluster(process, addresses)]
    if check:
        from drakkar_flow.cli.check import check as check_only

        check_only(flow, config, assignments)
        return
    from drakkar_flow.engine.pid1 import leave_pid_1

    leave_pid_1()  # before the flow's file is imported, which may start threads
    from drakkar_flow.engine.supervisor import end_with_supervisor

    end_with_supervisor()
    from drakkar_flow.engine.runner import StreamingRunner

    found, file = find_flow(flow)
    before: LogOptions = context.obj
    logging = LogOptions(verbose or before.verbose, log_format or before.log_format)
    loaded = load_for(found, file, config, [*logging.assignments(), *assignments])
    raise typer.Exit(StreamingRunner(found, loaded.config).run())


def _cluster(process: int | None, addresses: str | None) -> list[str]:
    """Return the settings of -i and -a, in the form of --set."""
    found = {"process_id": process, "addresses": addresses}
    return [f"runtime.cluster.{name}={value}" for name, value in found.items() if value is not None]
