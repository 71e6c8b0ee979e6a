"""`drakkar-flow recorder`: read, merge, export and verify the recordings of workers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from drakkar_flow.cli.options import AsJson
from drakkar_flow.recorder.formats import EXPORTED_TABLES, ExportFormat

if TYPE_CHECKING:
    from drakkar_flow.recorder.recording import Recording
    from drakkar_flow.recorder.rows import EventSeen, RecordStory, TaskSeen

__all__ = ["app"]

app = typer.Typer(help="Read, merge, export and verify the recordings of workers.", no_args_is_help=True)

Directories = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[DIR]...", help="Directories of recordings; without one, the user's state directory."),
]
_BUDGET_S = 60.0
_SHOWN = 20


@app.command()
def show(
    directories: Directories = None,
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Maximum of problems and failures.")] = _SHOWN,
    as_json: AsJson = False,
) -> None:
    """Show workers, counts, problems and the last failures."""
    with _recording(directories) as recording:
        report = _report(recording, limit)
        typer.echo(json.dumps(report) if as_json else "\n".join(_text(report)))
        _complain(recording)


@app.command()
def trace(
    what: Annotated[str, typer.Argument(metavar="RECORD|TASK", help="topic:partition:offset, or the id of a task.")],
    directories: Directories = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show what happened to one record or task, on all workers; ends with 1 if nothing is known of it."""
    with _recording(directories) as recording:
        topic, _, place = what.rpartition(":")
        topic, _, partition = topic.rpartition(":")
        lines: list[dict[str, Any]] = []
        if topic and partition.isdecimal() and place.isdecimal():
            lines = list(_story_lines(recording.record(topic, int(partition), int(place))))
        if not lines:
            lines = [_task_line(row) for row in recording.task(what).rows]
        for row in recording.outputs(what).rows:
            lines.append({**_placed(row.at_us, row.worker), "what": row.stream, "size": row.size, "text": row.text})
        _complain(recording)
    for line in sorted(lines, key=lambda each: str(each["at"])):
        typer.echo(json.dumps(line) if as_json else _line(line))
    if not lines:
        typer.echo(f"nothing is recorded of {what}", err=True)
        raise typer.Exit(1)


@app.command()
def merge(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Directories of recordings.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Directory that gets the copies.")],
) -> None:
    """Copy the recordings of several directories into one; may be repeated."""
    from drakkar_flow.recorder.merge import merge as merged

    try:
        result = merged(_existing(directories), to)
    except OSError as exc:
        typer.echo(f"{to}: can't be written: {exc.strerror or exc}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{to}: {len(result.copied)} recordings copied, {len(result.kept)} were there")
    _name(result.faulty)


@app.command()
def export(
    directories: Directories = None,
    *,
    form: Annotated[ExportFormat, typer.Option("--format", help="Form of the export.")] = ExportFormat.JSONL,
    table: Annotated[str, typer.Option("--table", help=f"One table: {', '.join(EXPORTED_TABLES)}.")] = "",
    since: Annotated[datetime | None, typer.Option("--from", help="Begin of the period, in UTC.")] = None,
    until: Annotated[datetime | None, typer.Option("--until", help="End of the period, in UTC.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; without it, stdout.")] = None,
) -> None:
    """Write recordings as JSON lines, CSV, a trace for Perfetto or Chrome, or OTLP as JSON lines."""
    import sqlite3

    from drakkar_flow.recorder.export import exported

    if table and table not in EXPORTED_TABLES:
        raise typer.BadParameter(f"{table!r} is no table of an export", param_hint="--table")
    with _recording(directories) as recording:
        lines = exported(recording.files(), form, table, _us(since, 0), _us(until, 1 << 58))
        try:
            with out.open("w", encoding="utf-8") if out is not None else nullcontext(sys.stdout) as stream:
                for line in lines:
                    stream.write(f"{line}\n")
        except (sqlite3.Error, OSError) as exc:
            typer.echo(f"the export failed: {exc}", err=True)
            raise typer.Exit(1) from None
        _complain(recording)


@app.command()
def verify(directories: Directories = None) -> None:
    """Check files, identity and sums; ends with 1 if a recording has a fault."""
    from drakkar_flow.recorder.verify import faults_of

    with _recording(directories) as recording:
        paths = [file.path for file in recording.files()]
        problems = {str(path): [reason] for path, reason in recording.faulty.items()}
    for path in paths:
        if found := list(faults_of(path)):
            problems[str(path)] = found
    for place, found in problems.items():
        for problem in found:
            typer.echo(f"  - {place}: {problem}", err=True)
    typer.echo(f"{len(paths)} recordings, {f'{len(problems)} with faults' if problems else 'ok'}", err=bool(problems))
    raise typer.Exit(1 if problems else 0)


def _recording(directories: list[Path] | None) -> Recording:
    from drakkar_flow.recorder.place import RECORDER
    from drakkar_flow.recorder.recording import Recording
    from drakkar_flow.storage.directory import DirectoryRefused

    if directories:
        return Recording(*_existing(directories), budget_s=_BUDGET_S)
    try:
        return Recording(RECORDER.default(os.environ), budget_s=_BUDGET_S)
    except DirectoryRefused:
        raise typer.BadParameter("there is no home directory: name a directory of recordings") from None


def _existing(directories: list[Path]) -> list[Path]:
    for directory in directories:
        if not directory.exists():
            raise typer.BadParameter(f"{directory} does not exist", param_hint="DIR")
    return directories


def _complain(recording: Recording) -> None:
    _name(recording.faulty)


def _name(faulty: dict[Path, str]) -> None:
    for path, reason in faulty.items():
        typer.echo(f"{path}: left out: {reason}", err=True)


def _report(recording: Recording, limit: int) -> dict[str, Any]:
    ticks = recording.ticks(step_s=1 << 40, kinds=("read", "finished", "task", "sink", "failed", "dead_letters"))
    faults = recording.faults()
    return {
        "files": [
            {
                "path": str(file.path),
                "worker": file.side.worker,
                "from": _time(file.began_us),
                "to": _time(file.ended_us),
                "bytes": file.side.size,
                "ended": file.side.ended,
            }
            for file in recording.files()
        ],
        "counts": [
            {"kind": kind, "name": name, "count": sum(point.n for point in points)}
            for (kind, name), points in ticks.rows
        ],
        "faults": [msgspec.to_builtins(fault) for fault in faults.rows[:limit]],
        "more_faults": max(0, len(faults.rows) - limit),
        "failures": [_event_line(event) for event in recording.failures(limit=limit).rows],
        "covered": [_time(each) for each in faults.covered],
    }


def _text(report: dict[str, Any]) -> Iterator[str]:
    for file in report["files"]:
        yield f"{file['worker']}  {file['from']} to {file['to']}  {file['bytes']:>10} bytes  {file['ended']}"
    if not report["files"]:
        yield "there are no recordings"
        return
    yield ""
    for row in report["counts"]:
        yield f"{row['count']:>12}  {row['kind']} {_plain(row['name'])}"
    if report["faults"]:
        yield "\nproblems:"
    for fault in report["faults"]:
        words = [fault["kind"], fault["stage"], fault["what"], fault["sample"]]
        yield f"{fault['count']:>12}  {_plain(' '.join(filter(None, words)))}  (last {_time(fault['last_us'])})"
    if report["more_faults"]:
        yield f"{report['more_faults']} more; --limit shows them"
    if report["failures"]:
        yield "\nlast failures:"
    for line in report["failures"]:
        yield _line(line)


def _story_lines(story: RecordStory) -> Iterator[dict[str, Any]]:
    for span in story.spans:
        read = {"what": "read", "until": _time(span.read_to_us), "epoch": span.epoch}
        yield {**_placed(span.read_from_us, span.worker), **read}
        if span.passed_us is not None:
            yield {**_placed(span.passed_us, span.worker), "what": "finished", "epoch": span.epoch}
    for row in story.traces:
        yield {**_placed(row.at_us, row.worker), "what": f"trace: {row.step}", "took_ms": row.took_us / 1000}
    yield from (_task_line(row) for row in story.tasks)
    yield from (_event_line(row) for row in story.events)


def _task_line(row: TaskSeen) -> dict[str, Any]:
    return {
        **_placed(row.at_us, row.worker),
        "what": f"task {row.status}",
        "task_id": row.task_id,
        "exit_code": row.exit_code,
        "attempt": row.attempt,
        "queued_ms": row.queued_us / 1000,
        "ran_ms": row.ran_us / 1000,
        "pid": row.pid,
        "slot": row.slot,
    }


def _event_line(row: EventSeen) -> dict[str, Any]:
    record = {"record": f"{row.topic_partition}:{row.offset}"} if row.topic_partition is not None else {}
    return {**_placed(row.at_us, row.worker), "what": row.kind, **record, **row.detail}


def _placed(us: int, worker: str) -> dict[str, Any]:
    return {"at": _time(us), "worker": worker}


def _line(fields: dict[str, Any]) -> str:
    at, worker, what = (fields[name] for name in ("at", "worker", "what"))
    rest = [f"{name}={_plain(value)}" for name, value in fields.items() if name not in ("at", "worker", "what")]
    return f"{at}  {_plain(worker)}  {_plain(what)}  {' '.join(rest)}".rstrip()


def _plain(value: object) -> str:
    """Return a value as one line that a terminal only shows: recorded texts are those of programs and records."""
    text = value if isinstance(value, str) else json.dumps(value)
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _time(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _us(time: datetime | None, otherwise: int) -> int:
    return otherwise if time is None else int(time.replace(tzinfo=UTC).timestamp() * 1e6)
