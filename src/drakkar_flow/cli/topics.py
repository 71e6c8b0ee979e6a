"""`drakkar-flow topics`: the topics of a flow."""

from __future__ import annotations

from typing import Annotated

import typer

from drakkar_flow.cli.find import find_flow
from drakkar_flow.cli.options import Assignments, ConfigOption, Flow, load_for

__all__ = ["app"]

app = typer.Typer(help="Create the topics of a flow.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `create` a subcommand although it is the only one."""


@app.command()
def create(
    flow: Flow,
    config: ConfigOption = None,
    assignments: Assignments = [],  # noqa: B006 - typer's way to say that there is none
    partitions: Annotated[
        int | None,
        typer.Option("--partitions", "-p", min=1, help="Partitions of new topics; else the brokers' default."),
    ] = None,
    replication: Annotated[
        int | None,
        typer.Option("--replication", "-r", min=1, help="Replicas of new topics; else the brokers' default."),
    ] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be created.")] = False,
) -> None:
    """Create missing source, sink and dead letter topics; existing ones are compared, never changed."""
    from drakkar_flow.engine.entrypoint import stream_of
    from drakkar_flow.engine.offline import source_problems
    from drakkar_flow.engine.topics import create_topics, topics_of
    from drakkar_flow.errors import ConfigError

    found, file = find_flow(flow)
    stream = stream_of(found)
    loaded = load_for(found, file, config, assignments).config
    if missing := [problem for problem in source_problems(stream, loaded) if "topic" in problem.where]:
        raise ConfigError(missing)
    uses = topics_of(stream, loaded)
    failed = False
    for result in create_topics(uses, partitions=partitions, replication=replication, dry_run=dry_run):
        failed = failed or result.state == "failed"
        typer.echo(f"{result.state:9}{result.name}  ({result.where}) {result.detail}".rstrip())
    raise typer.Exit(1 if failed else 0)
