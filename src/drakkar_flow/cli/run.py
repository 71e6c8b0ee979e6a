"""`drakkar-flow run`: run a flow until it is told to stop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from drakkar_flow.cli.config import Assignments
from drakkar_flow.cli.find import find_flow

__all__ = ["run"]


def run(
    flow: Annotated[str, typer.Argument(help="flows/pipeline.py, file.py:name or package.module:name")],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="the YAML file; else it is found")] = None,
    assignments: Assignments = [],  # noqa: B006 - typer's way to say that there is none
) -> None:
    """Run a flow; SIGTERM or Ctrl-C drains it, a second one aborts.

    Without --config the settings are in the file that DRAKKAR_CONFIG (or DK_CONFIG) names, else beside the flow in
    NAME.yaml (of NAME.py) or drakkar.yaml, else in drakkar.yaml in the working directory; each may end in .yml.
    """
    from drakkar_flow.engine.pid1 import leave_pid_1

    leave_pid_1()  # before the flow's file is imported, which may start threads
    from drakkar_flow.config.find import find_config
    from drakkar_flow.config.load import load
    from drakkar_flow.engine.runner import StreamingRunner
    from drakkar_flow.engine.terse import app_options

    found, file = find_flow(flow)
    loaded = load(find_config(config, os.environ, file), assignments=assignments, **app_options(found))
    runner = StreamingRunner(found, loaded.config)
    raise typer.Exit(runner.run())
