"""`drakkar-flow recovery`: make, show, check, reset and export the recovery store of a flow."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drakkar_flow.cli.options import AsJson, Assignments, ConfigOption, Flow
from drakkar_flow.cli.stores import StoreArgument, StorePlace, key_text, need_flow, place_of, read
from drakkar_flow.errors import StartupError

if TYPE_CHECKING:
    from drakkar_flow.kernel.partition_row import PartitionRow, StateKey
    from drakkar_flow.kernel.store_identity import StoreIdentity
    from drakkar_flow.model.record import TopicPartition
    from drakkar_flow.runtime.recovery.reading import StoredRow, StoredShard, StoreRows

__all__ = ["app", "exported"]

app = typer.Typer(help="Make, show, check, reset and export the recovery store of a flow.", no_args_is_help=True)


@app.command()
def init(flow: Flow, config: ConfigOption = None, assignments: Assignments = []) -> None:  # noqa: B006
    """Make the store of a flow before its first start, and check that it can be used. Asks the brokers."""
    from drakkar_flow.engine.recovery_start import brokers_of, identity_of
    from drakkar_flow.runtime.recovery.store import open_store

    place = place_of(flow, config, assignments)
    stream, settings = need_flow(place, "init")
    identity = identity_of(stream, settings, brokers_of(stream, settings))
    with open_store(place.directory, identity, place.settings) as store:
        state = "ready, never used" if store.first_start else f"used by {store.found.progress.execution} runs"
        typer.echo(f"{place.directory}: {store.found.partitions} files, {state}")


@app.command()
def inspect(
    store: StoreArgument,
    config: ConfigOption = None,
    assignments: Assignments = [],  # noqa: B006 - typer's way to say that there is none
    *,
    as_json: AsJson = False,
) -> None:
    """Show identity, epoch, positions and sizes of a store; also while a worker uses it."""
    place = place_of(store, config, assignments)
    identity, found = read(place)
    typer.echo(json.dumps(_report(place, identity, found)) if as_json else _text(place, identity, found))


@app.command()
def check(
    store: StoreArgument,
    config: ConfigOption = None,
    assignments: Assignments = [],  # noqa: B006
    *,
    offline: Annotated[bool, typer.Option("--offline", help="Check the files only; do not ask the brokers.")] = False,
) -> None:
    """Check a store: files, rows, identity, and for a flow the start of each partition as the brokers know it.

    Ends with 0 if a start would succeed, with 1 if the store has a fault, is in use, or a start would be refused, with
    2 if the flow or its settings are wrong. The store is not changed.
    """
    place = place_of(store, config, assignments)
    problems = list(_file_problems(place.directory))
    if not problems and not offline and place.flow is not None:
        problems += _start_problems(place)
    for problem in problems:
        typer.echo(f"  - {problem}", err=True)
    typer.echo(f"{place.directory}: {f'{len(problems)} problems' if problems else 'ok'}", err=bool(problems))
    raise typer.Exit(1 if problems else 0)


@app.command()
def reset(
    store: StoreArgument,
    config: ConfigOption = None,
    assignments: Assignments = [],  # noqa: B006
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Move a store aside, so that the next start makes a new one; refused while the store is in use.

    A flow with state starts then only with `runtime.recovery.on_lost: commits` or `earliest`.
    """
    from drakkar_flow.runtime.recovery.directory import locked, moved_aside

    directory = place_of(store, config, assignments).directory
    if not directory.is_dir():
        typer.echo(f"{directory}: there is no recovery store", err=True)
        raise typer.Exit(1)
    if not yes:
        typer.confirm(f"Move {directory} aside? The next start has neither its positions nor its state", abort=True)
    try:
        with locked(directory):
            aside = moved_aside(directory)
    except OSError as exc:
        typer.echo(f"{directory}: can't be moved: {exc.strerror}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{directory} is now {aside}; move it back to undo this")


@app.command()
def export(store: StoreArgument, config: ConfigOption = None, assignments: Assignments = []) -> None:  # noqa: B006
    """Print a store as JSON Lines: the position of each partition, then each value of its state; then the shards."""
    _, found = read(place_of(store, config, assignments))
    for at in sorted(found.rows):
        typer.echo(json.dumps(_position(at, found.rows[at])))
        for line in _values({"topic": at[0], "partition": at[1]}, found.rows[at].row.state):
            typer.echo(json.dumps(line))
    for name in sorted(found.shards):
        typer.echo(json.dumps(_shard(name, found.shards[name])))
        for line in _values({"shard": name}, found.shards[name].state):
            typer.echo(json.dumps(line))


def exported(
    rows: Mapping[TopicPartition, PartitionRow], shards: Mapping[str, StoredShard]
) -> Iterator[dict[str, Any]]:
    """Yield each value of state, with its partition, or with its shard if it is kept across partitions."""
    for at in sorted(rows):
        yield from _values({"topic": at[0], "partition": at[1]}, rows[at].state)
    for name in sorted(shards):
        yield from _values({"shard": name}, shards[name].state)


def _values(place: Mapping[str, Any], state: Mapping[StateKey, bytes]) -> Iterator[dict[str, Any]]:
    from drakkar_flow.model.state import plain_value

    for (step, key), value in sorted(state.items()):
        yield {"type": "state", **place, "step": step, "key": key_text(key), "value": plain_value(value)}


def _file_problems(directory: Path) -> Iterator[str]:
    """Yield the faults of each file, then those of all together, of the identity and of the rows."""
    from drakkar_flow.runtime.recovery.files import DamagedStore, part_files, quick_check, read_part
    from drakkar_flow.runtime.recovery.reading import read_rows
    from drakkar_flow.runtime.recovery.store import check_files, read_identity
    from drakkar_flow.storage.directory import network_filesystem

    if kind := network_filesystem(directory):
        yield f"{directory}: is on a network filesystem ({kind})"
    sound = True
    for path in part_files(directory):
        try:
            quick_check(path)
            read_part(path)
        except DamagedStore as exc:
            sound = False
            yield f"{path}: {exc}"
    try:
        identity = read_identity(directory)
        if identity is None:
            yield f"{directory}: there is no recovery store"
        elif sound:
            check_files(directory)
            read_rows(directory, identity.flow)
    except DamagedStore as exc:
        yield f"{exc.path}: {exc}"


def _start_problems(place: StorePlace) -> Iterator[str]:
    """Yield the reasons for which a start would be refused now; print its warnings."""
    from drakkar_flow.engine.recovery_start import (
        active_members,
        brokers_of,
        identity_of,
        plan_starts,
        value_problems,
    )
    from drakkar_flow.kernel.recovery_start import StartRefused
    from drakkar_flow.runtime.recovery.store import open_store

    flow, config = need_flow(place, "check")
    brokers = brokers_of(flow, config)
    identity = identity_of(flow, config, brokers)
    try:
        settings = place.settings.model_copy(update={"on_incompatible": "fail"})  # a check moves nothing aside
        with open_store(place.directory, identity, settings) as store:
            starts = plan_starts(flow, config, place.settings, store, brokers)
            yield from map(str, value_problems(flow, store.found.states, int(time.time() * 1000)))
    except StartupError as exc:
        yield from map(str, exc.problems)
        return
    if members := active_members(config):
        yield f"kafka.consumer_group: {config.kafka.consumer_group!r} has active members: {', '.join(members)}"
    for start in starts.values():
        if isinstance(start, StartRefused):
            yield f"{start.what}; {start.remedy}"
        elif start.warning:
            typer.echo(f"  - warning {start.warning}")


def _position(at: TopicPartition, stored: StoredRow) -> dict[str, Any]:
    row = stored.row
    return {
        "type": "position",
        "topic": at[0],
        "partition": at[1],
        "slot": stored.slot,
        "offset": row.offset,
        "finished": [list(each) for each in row.finished],
        "keys": len(row.state),
        "state_bytes": sum(map(len, row.state.values())),
        "epoch": stored.epoch,
        "written_at": stored.written_at.isoformat(),
    }


def _shard(name: str, stored: StoredShard) -> dict[str, Any]:
    return {
        "type": "shard",
        "shard": name,
        "keys": len(stored.state),
        "state_bytes": sum(map(len, stored.state.values())),
        "epoch": stored.epoch,
        "written_at": stored.written_at.isoformat(),
    }


def _report(place: StorePlace, identity: StoreIdentity, found: StoreRows) -> dict[str, Any]:
    return {
        "directory": str(place.directory),
        "identity": json.loads(identity.encode()),
        "files": found.partitions,
        "executions": found.progress.execution,
        "resume_epoch": found.progress.epoch,
        "written_at": found.written_at.isoformat() if found.written_at else None,
        "partitions": [_position(at, found.rows[at]) for at in sorted(found.rows)],
        "shards": [_shard(name, found.shards[name]) for name in sorted(found.shards)],
    }


def _text(place: StorePlace, identity: StoreIdentity, found: StoreRows) -> str:
    age = f"{(datetime.now(UTC) - found.written_at).total_seconds():.0f} s ago" if found.written_at else "never"
    steps = ", ".join(f"{step} ({model})" for step, model in sorted(identity.schema.items())) or "none"
    lines = [
        f"store    {place.directory}: {found.partitions} files, format {identity.format}",
        f"flow     {identity.flow}, group {identity.group}, cluster {identity.cluster_id or 'unknown'}",
        *(f"topic    {name}: id {topic.id or 'unknown'}" for name, topic in sorted(identity.topics.items())),
        f"state    {steps}",
        f"rows     written {age}; the next run resumes at epoch {found.progress.epoch}",
    ]
    if found.shards:
        shards = [_shard(name, stored) for name, stored in found.shards.items()]
        keys, size = (sum(shard[each] for shard in shards) for each in ("keys", "state_bytes"))
        lines.append(f"shards   {len(shards)} rows with state across partitions: {keys} keys, {size} bytes")
    width = max([len("topic"), *(len(topic) for topic, _ in found.rows)])
    lines.append(f"{'topic':{width}}  partition  slot          offset  finished beyond       keys      bytes")
    for at in sorted(found.rows):
        row = _position(at, found.rows[at])
        beyond = sum(stop - start for start, stop in row["finished"])
        lines.append(
            f"{at[0]:{width}}  {at[1]:9}  {row['slot']}  {row['offset']:10}  {beyond:15}  {row['keys']:9}"
            f"  {row['state_bytes']:9}"
        )
    return "\n".join(lines)
