"""`drakkar-flow state`: read the keyed state of a flow from its recovery store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any

import typer

from drakkar_flow.cli.options import Assignments, ConfigOption
from drakkar_flow.cli.recovery import exported
from drakkar_flow.cli.stores import StoreArgument, place_of, read

__all__ = ["app"]

app = typer.Typer(help="Read the keyed state of a flow from its recovery store.", no_args_is_help=True)

Step = Annotated[str, typer.Option("--step", help="Only the state of this step.")]


@app.command("get")
def get(
    store: StoreArgument,
    key: Annotated[str, typer.Argument(help="The key; a number or the hexadecimal digits of bytes too.")],
    config: ConfigOption = None,
    assignments: Assignments = [],  # noqa: B006 - typer's way to say that there is none
    step: Step = "",
) -> None:
    """Print the values of a key, one JSON object per step and partition or shard; ends with 1 if there is none."""
    found = [
        line
        for line in _lines(store, config, assignments, step)
        if key == (line["key"]["bytes"] if isinstance(line["key"], dict) else str(line["key"]))
    ]
    for line in found:
        typer.echo(json.dumps(line))
    if not found:
        typer.echo(f"no state of key {key!r}", err=True)
        raise typer.Exit(1)


@app.command("list")
def list_keys(
    store: StoreArgument,
    config: ConfigOption = None,
    assignments: Assignments = [],  # noqa: B006
    step: Step = "",
    prefix: Annotated[str, typer.Option("--prefix", help="Only keys that begin so.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=0, help="Maximum of keys; 0: all.")] = 100,
) -> None:
    """List keys with their step and partition, or shard."""
    lines = (line for line in _lines(store, config, assignments, step) if str(line["key"]).startswith(prefix))
    for line in islice(lines, limit or None):
        place = line.get("shard") or f"{line['topic']}-{line['partition']}"
        typer.echo(f"{place}  {line['step']}  {line['key']}")
    if (more := sum(1 for _ in lines)) > 0:
        typer.echo(f"{more} more keys; --limit 0 lists all", err=True)


@app.command("export")
def export(
    store: StoreArgument,
    config: ConfigOption = None,
    assignments: Assignments = [],  # noqa: B006
    step: Step = "",
) -> None:
    """Print all values as JSON Lines."""
    for line in _lines(store, config, assignments, step):
        typer.echo(json.dumps(line))


def _lines(store: str, config: Any, assignments: list[str], step: str) -> Iterator[dict[str, Any]]:
    _, found = read(place_of(store, config, assignments))
    yield from (line for line in exported(found) if not step or line["step"] == step)
