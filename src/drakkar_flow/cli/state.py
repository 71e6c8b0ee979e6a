"""`drakkar-flow state`: read the keyed state of a flow from its state topic or its recovery store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drakkar_flow.cli.options import Assignments, ConfigOption
from drakkar_flow.cli.recovery import exported
from drakkar_flow.cli.stores import StateReadError, StoreArgument, StorePlace, place_of, read
from drakkar_flow.errors import Problem

if TYPE_CHECKING:
    from drakkar_flow.config.root import DrakkarConfig
    from drakkar_flow.graph.flow import StreamFlow
    from drakkar_flow.kernel.partition_row import PartitionRow
    from drakkar_flow.model.record import TopicPartition
    from drakkar_flow.runtime.recovery.reading import StoredShard

__all__ = ["app"]

app = typer.Typer(
    help="Read the keyed state of a flow from its state topic or its recovery store.", no_args_is_help=True
)

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
    rows, shards = _stored(place_of(store, config, assignments))
    yield from (line for line in exported(rows, shards) if not step or line["step"] == step)


def _stored(place: StorePlace) -> tuple[Mapping[TopicPartition, PartitionRow], Mapping[str, StoredShard]]:
    """Return the rows of partitions and shards: of the state topic in group mode, else of the recovery store."""
    if place.flow is None or place.config is None or place.config.runtime.recovery is not None:
        _, found = read(place)
        return {at: stored.row for at, stored in found.rows.items()}, found.shards
    return _topic_rows(place.flow, place.config), {}


def _topic_rows(flow: StreamFlow, config: DrakkarConfig) -> Mapping[TopicPartition, PartitionRow]:
    from confluent_kafka import KafkaError, KafkaException

    from drakkar_flow.config.sections.kafka import client_properties
    from drakkar_flow.engine.group_state import state_topic_name
    from drakkar_flow.kernel.kafka_errors import report
    from drakkar_flow.kernel.state_messages import StateMessageError
    from drakkar_flow.runtime.state_topic.reading import read_state

    topic = state_topic_name(flow.name, config)
    try:
        return read_state(client_properties(config.kafka), config.kafka.consumer_group, topic)
    except KafkaException as exc:
        if exc.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            what, remedy = f"there is no state topic {topic!r}", "name a flow that has run with state, and its settings"
        else:
            what, remedy = f"the state topic {topic!r} can't be read: {report(exc)}", ""
        raise StateReadError([Problem("runtime.state.topic", what, remedy)]) from None
    except StateMessageError as exc:
        raise StateReadError([Problem("runtime.state.topic", f"{topic!r} has {exc}")]) from None
