"""`drakkar-flow dlq`: list, show and replay dead letters."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drakkar_flow.cli.options import Assignments

if TYPE_CHECKING:
    from drakkar_flow.engine.dead_letter_store import DeadLetterStore
    from drakkar_flow.engine.dead_letters import Selection, StoredDeadLetter

__all__ = ["app"]

app = typer.Typer(help="List, show and replay dead letters.", no_args_is_help=True)

Config = Annotated[Path | None, typer.Option("--config", "-c", help="the YAML file; else the one `run` would find")]
Flow = Annotated[str, typer.Option("--flow", "-f", help="the flow the settings belong to, as for `run`")]
Topic = Annotated[str, typer.Option("--topic", help="the dead letter topic; else that of the settings")]
Ids = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FLOW] [ID]...",
        help="the flow, as for `run`; \\[topic:]partition:offset of dead letters or of their records, else all",
    ),
]
Reason = Annotated[str, typer.Option("--reason", help="only those whose error has this text or regular expression")]
Stage = Annotated[str, typer.Option("--stage", help="only those of a step, by the beginning of its name")]
Since = Annotated[str, typer.Option("--since", help="only those written since 2026-01-31T12:00, or 90s, 2h, 1d ago")]
Until = Annotated[str, typer.Option("--until", help="only those written before that")]

_SHOWN = 120
_FLOW = re.compile(r".*\.py(:\w+)?|[A-Za-z_]\w*(\.\w+)+(:[A-Za-z_]\w*)?")
"""A flow as the first argument, like in every other command: a Python file or a module of a package."""


@app.command("list")
def list_letters(
    ids: Ids = None,
    config: Config = None,
    flow: Flow = "",
    assignments: Assignments = [],  # noqa: B006 - typer's way to say that there is none
    topic: Topic = "",
    reason: Reason = "",
    stage: Stage = "",
    since: Since = "",
    until: Until = "",
    limit: Annotated[int, typer.Option("--limit", min=0, help="maximum of dead letters; 0: all")] = 0,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="a JSON object per dead letter")] = False,
) -> None:
    """List dead letters: place, time, record, step and error of each, and whether its record was replayed.

    Ends with 1 if an id matches none.
    """
    ids, flow = _flow_first(ids, flow)
    selection = _selection(ids, reason, stage, since, until)
    with _store(config, flow, assignments, topic) as (store, _):
        found = store.read()
    letters = [letter for letter in found if selection.fits(letter)]
    for letter in letters[: limit or None]:
        typer.echo(json.dumps(_fields(letter)) if as_json else _line(letter))
    if not as_json:
        more = f", {limit} shown" if 0 < limit < len(letters) else ""
        typer.echo(f"{len(letters)} dead letters{more} in {store.topic}", err=True)
    _require_known(selection, found, store.topic)


@app.command()
def show(
    ids: Annotated[
        list[str], typer.Argument(metavar="[FLOW] ID...", help="\\[topic:]partition:offset of dead letters or records")
    ],
    config: Config = None,
    flow: Flow = "",
    assignments: Assignments = [],  # noqa: B006
    topic: Topic = "",
) -> None:
    """Show dead letters in full: headers, key and value. Ends with 1 if an id matches none."""
    ids, flow = _flow_first(ids, flow)
    if not ids:
        raise _refused(ValueError("no dead letter is named: write partition:offset or topic:partition:offset"))
    selection = _selection(ids)
    with _store(config, flow, assignments, topic) as (store, _):
        letters = store.read()
    for letter in filter(selection.fits, letters):
        typer.echo(_line(letter))
        for name, value in letter.headers:
            typer.echo(f"  {name}: {_text(value)}")
        typer.echo(f"  key: {_text(letter.key)}\n  value: {_text(letter.value)}")
    _require_known(selection, letters, store.topic)


@app.command()
def replay(
    ids: Ids = None,
    config: Config = None,
    flow: Flow = "",
    assignments: Assignments = [],  # noqa: B006
    topic: Topic = "",
    reason: Reason = "",
    stage: Stage = "",
    since: Since = "",
    until: Until = "",
    limit: Annotated[int, typer.Option("--limit", min=0, help="at most so many records; 0: all")] = 0,
    rate: Annotated[float, typer.Option("--rate", min=0, help="at most so many records a second; 0: no bound")] = 0.0,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be replayed, send nothing")] = False,
    again: Annotated[bool, typer.Option("--again", help="also records that were replayed before")] = False,
) -> None:
    """Send the records of dead letters to their topics once more, each once however many dead letters it has.

    Replayed records are remembered, so a second replay does not send them again. Ends with 1 if a record could
    not be replayed, with 2 if no attempt was possible.
    """
    from drakkar_flow.engine.replay import Replay, ReplayOptions

    ids, flow = _flow_first(ids, flow)
    selection = _selection(ids, reason, stage, since, until)
    options = ReplayOptions(selection, limit, rate, again, dry_run)
    with _store(config, flow, assignments, topic) as (store, properties):
        summary = Replay(store, properties, options, typer.echo, lambda text: typer.echo(text, err=True)).run()
    for problem in summary.failed:
        typer.echo(f"failed: {problem}", err=True)
    done = "would be replayed" if dry_run else "replayed"
    parts = [f"{summary.sent} records {done}", f"{len(summary.failed)} failed"]
    if summary.before:
        parts.append(f"{summary.before} replayed before (--again sends them once more)")
    typer.echo(f"{', '.join(parts)}; {summary.letters} dead letters in {store.topic}")
    raise typer.Exit(1 if summary.failed else 0)


def _require_known(selection: Selection, letters: Iterable[StoredDeadLetter], topic: str) -> None:
    """End with 1 if an id matches no dead letter: it may be a misprint."""
    if unknown := selection.unknown(letters):
        typer.echo(f"no such dead letter in {topic}: {', '.join(unknown)}", err=True)
        raise typer.Exit(1)


def _flow_first(ids: list[str] | None, flow: str) -> tuple[list[str], str]:
    """Split the flow from the front of the ids, unless `--flow` gives it.

    >>> _flow_first(["pipeline.py", "0:17"], ""), _flow_first(["orders.in:0:17"], "")
    ((['0:17'], 'pipeline.py'), (['orders.in:0:17'], ''))
    """
    ids = ids or []
    if ids and not flow and _FLOW.fullmatch(ids[0]):
        return ids[1:], ids[0]
    return ids, flow


def _selection(ids: list[str] | None, reason: str = "", stage: str = "", since: str = "", until: str = "") -> Selection:
    from drakkar_flow.engine.dead_letters import DlqError, Selection, moment

    now = datetime.now(UTC)
    try:
        first, last = (moment(text, now) if text else None for text in (since, until))
        selection = Selection(ids or (), reason, stage, first, last)
        selection.check()
    except DlqError as exc:
        raise _refused(exc) from exc
    return selection


@contextmanager
def _store(
    config: Path | None, flow: str, assignments: list[str], topic: str
) -> Iterator[tuple[DeadLetterStore, dict[str, Any]]]:
    """The dead letters of the settings' topic, and the properties of clients of the source."""
    from drakkar_flow.config.loading.find import find_config
    from drakkar_flow.config.loading.load import load
    from drakkar_flow.config.sections.kafka import client_properties
    from drakkar_flow.engine.build import dead_letter_client, resolve_topics
    from drakkar_flow.engine.dead_letter_store import DeadLetterStore
    from drakkar_flow.engine.dead_letters import DlqError
    from drakkar_flow.engine.entrypoint import app_options, stream_of

    found, file = (None, None) if not flow else _find(flow)
    options = app_options(found) if flow else {}
    settings = load(find_config(config, os.environ, file), assignments=assignments, **options).config
    if found is not None:
        settings = resolve_topics(stream_of(found), settings)
    try:
        with DeadLetterStore(dead_letter_client(settings), topic or settings.dead_letter_topic) as store:
            yield store, client_properties(settings.kafka)
    except DlqError as exc:
        raise _refused(exc) from exc


def _find(flow: str) -> tuple[Any, Path | None]:
    from drakkar_flow.cli.find import find_flow

    return find_flow(flow)


def _refused(error: Exception) -> typer.Exit:
    typer.echo(f"drakkar-flow dlq: {error}", err=True)
    return typer.Exit(2)


def _line(letter: StoredDeadLetter) -> str:
    reason = " ".join(letter.reason.split())
    reason = reason if len(reason) <= _SHOWN else f"{reason[:_SHOWN]}..."
    notes = [note for note in (letter.history, "replayed" if letter.replayed else "") if note]
    note = f" [{'; '.join(notes)}]" if notes else ""
    place = f"{letter.place.partition}:{letter.place.offset}"
    return f"{place}  {_time(letter)}  {letter.origin or '-'}  {letter.stage or '-'}  {reason}{note}"


def _time(letter: StoredDeadLetter) -> str:
    return datetime.fromtimestamp(letter.timestamp_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _fields(letter: StoredDeadLetter) -> dict[str, Any]:
    return {
        "letter": str(letter.place),
        "time": _time(letter),
        "record": str(letter.origin) if letter.origin else None,
        "stage": letter.stage,
        "reason": letter.reason,
        "task_id": letter.task_id or None,
        "replayed": letter.replayed,
        "key": _text(letter.key),
        "size": len(letter.value or b""),
    }


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")
