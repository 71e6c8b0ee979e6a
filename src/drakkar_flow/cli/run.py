"""`drakkar-flow run`: run a flow until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drakkar_flow.cli.find import find_flow

__all__ = ["run"]


def run(
    flow: Annotated[str, typer.Argument(help="flows/pipeline.py, file.py:name or package.module:name")],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="YAML file; default: beside the flow")] = None,
) -> None:
    """Run a flow; SIGTERM or Ctrl-C drains it, a second one aborts."""
    from drakkar_flow.config.load import load_config
    from drakkar_flow.engine.runner import StreamingRunner
    from drakkar_flow.engine.terse import app_options, config_for

    found, file = find_flow(flow)
    runner = StreamingRunner(found, load_config(config or config_for(file), **app_options(found)))
    raise typer.Exit(runner.run())
