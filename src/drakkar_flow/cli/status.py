"""`drakkar-flow status`: the consumer group of a flow, as the brokers see it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from drakkar_flow.cli.find import find_flow
from drakkar_flow.cli.options import AsJson, Assignments, ConfigOption, Flow, load_for
from drakkar_flow.errors import ConfigError

if TYPE_CHECKING:
    from drakkar_flow.engine.status import GroupStatus

__all__ = ["status"]


def status(
    flow: Flow,
    config: ConfigOption = None,
    assignments: Assignments = [],  # noqa: B006 - typer's way to say that there is none
    interval_s: Annotated[float, typer.Option("--interval", min=0.1, help="Seconds between two with --watch.")] = 2.0,
    *,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Repeat until Ctrl-C.")] = False,
) -> None:
    """Show state, members, lag and dead letters of a flow's consumer group, without joining it."""
    from drakkar_flow.engine.entrypoint import stream_of
    from drakkar_flow.engine.offline import source_problems
    from drakkar_flow.engine.status import group_status

    found, file = find_flow(flow)
    stream = stream_of(found)
    loaded = load_for(found, file, config, assignments).config
    if missing := source_problems(stream, loaded):
        raise ConfigError(missing)
    while True:
        current = group_status(stream, loaded)
        typer.echo(json.dumps(current.to_json()) if as_json else _text(current))
        if not watch:
            return
        time.sleep(interval_s)


def _text(status: GroupStatus) -> str:
    letters = "no such topic" if status.dlq_records is None else f"{status.dlq_records} records"
    state = "no such group yet" if status.state == "dead" else status.state  # Kafka's word for an unknown group
    lines = [
        f"group    {status.group}: {state}, {len(status.members)} members, lag {status.lag}",
        f"dlq      {status.dlq_topic}: {letters}",
        *(f"member   {m.client_id} on {m.host}: {', '.join(m.partitions) or 'no partitions'}" for m in status.members),
    ]
    width = max([len("topic"), *(len(each.topic) for each in status.partitions)])
    lines.append(f"{'topic':{width}}  partition  committed        end        lag")
    for each in status.partitions:
        committed = "-" if each.committed is None else each.committed
        lines.append(f"{each.topic:{width}}  {each.partition:9}  {committed:>9}  {each.end:9}  {each.lag:9}")
    return "\n".join(lines)
