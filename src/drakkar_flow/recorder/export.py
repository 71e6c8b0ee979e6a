"""Exports of recordings: JSON lines, CSV, a trace for Perfetto or Chrome, and OTLP as JSON lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import msgspec

from drakkar_flow.recorder.conversion import STATUS
from drakkar_flow.recorder.files import Budget, RecordedFile
from drakkar_flow.recorder.fold.keys import us_of
from drakkar_flow.recorder.fold.ticks import merge_buckets
from drakkar_flow.recorder.formats import EXPORTED_TABLES, ExportFormat
from drakkar_flow.recorder.schema import COLUMNS

__all__ = ["exported"]

_NAMED = ("topic_partition", "kind", "program", "step", "stream", "name")
_LONG = 3600.0
_ARGUMENTS = ("topic_partition", "offset", "attempt", "exit_code", "queued_us", "weight")


def exported(
    files: list[RecordedFile], form: ExportFormat, table: str = "", from_us: int = 0, to_us: int = 1 << 58
) -> Iterator[str]:
    """Yield the lines of an export, oldest file first; `table` chooses one table, for CSV `tasks` unless given.

    Raises:
        sqlite3.Error: a recording is damaged.
    """
    files = sorted((file for file in files if file.ended_us >= from_us and file.began_us <= to_us), key=_age)
    if form is ExportFormat.JSONL:
        for file in files:
            for name in (table,) if table else EXPORTED_TABLES:
                for row in _rows(file, name, from_us, to_us):
                    yield _json({"type": name, **row})
    elif form is ExportFormat.CSV:
        yield from _csv(files, table or "tasks", from_us, to_us)
    elif form is ExportFormat.PERFETTO:
        yield from _perfetto(files, from_us, to_us)
    else:
        yield from _otlp(files, from_us, to_us)


def _rows(file: RecordedFile, table: str, from_us: int, to_us: int) -> Iterator[dict[str, Any]]:
    """Yield rows with names resolved and times in microseconds."""
    columns = COLUMNS[table]
    time, scale = ("second", 1_000_000) if table == "ticks" else ("key >> 4", 1)
    time = "last_us" if table == "faults" else time
    statement = f"SELECT {', '.join(columns)} FROM {table} WHERE {time} BETWEEN ? AND ? ORDER BY 1"  # noqa: S608 - ours
    found, _ = file.rows(statement, (from_us // scale, to_us // scale), Budget(_LONG))
    for values in found:
        row = dict(zip(columns, values, strict=True))
        for name in _NAMED:
            if name in row and table != "faults":
                kind = file.kind(row[name]) if table == "ticks" else ""
                row[name] = file.name(row[name])
                if kind:
                    row["kind"] = kind
        if "key" in row:
            row["at_us"] = us_of(row["key"])
        if table == "events":
            row["detail"] = msgspec.json.decode(row["detail"])
        if table == "ticks":
            row["buckets"] = {str(number): count for number, count in merge_buckets([row["buckets"]]).items()}
        if table == "tasks":
            row["status"] = STATUS[row["status"]]
        yield {"worker": file.side.worker, "file": file.side.file, **row}


def _csv(files: list[RecordedFile], table: str, from_us: int, to_us: int) -> Iterator[str]:
    extra = ("kind",) if table == "ticks" else ("at_us",) if COLUMNS[table][0] == "key" else ()
    columns = ("worker", "file", *COLUMNS[table], *extra)
    yield _csv_line(columns)
    for file in files:
        for row in _rows(file, table, from_us, to_us):
            cells = [row.get(column) for column in columns]
            yield _csv_line([_json(cell) if isinstance(cell, dict) else _harmless(cell) for cell in cells])


def _harmless(cell: Any) -> Any:
    """Return a cell that spreadsheets do not take for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def _csv_line(cells: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def _perfetto(files: list[RecordedFile], from_us: int, to_us: int) -> Iterator[str]:
    """Yield a trace in Chrome's JSON: workers are processes, slots are threads, events are instants."""
    workers = {worker: number for number, worker in enumerate(dict.fromkeys(file.side.worker for file in files), 1)}
    names = [_metadata("process_name", number, {"name": worker}) for worker, number in workers.items()]
    yield '{"displayTimeUnit":"ms","traceEvents":['
    separator = ""
    for line in names:
        yield separator + _json(line)
        separator = ","
    for file in files:
        process = workers[file.side.worker]
        for row in _rows(file, "tasks", from_us, to_us):
            place = {"pid": process, "tid": row["slot"], "cat": row["status"]}
            args = {name: row[name] for name in _ARGUMENTS}
            at = {"name": row["id"], "ph": "X", "ts": row["at_us"] - row["ran_us"], "dur": row["ran_us"], "args": args}
            yield separator + _json({**place, **at})
            separator = ","
        for row in _rows(file, "events", from_us, to_us):
            place = {"pid": process, "tid": 0, "cat": "event", "s": "p"}
            yield separator + _json(
                {**place, "name": row["kind"], "ph": "i", "ts": row["at_us"], "args": row["detail"]}
            )
            separator = ","
    yield "]}"


def _metadata(name: str, process: int, args: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "ph": "M", "pid": process, "tid": 0, "ts": 0, "args": args}


def _otlp(files: list[RecordedFile], from_us: int, to_us: int) -> Iterator[str]:
    """Yield a request of OTLP's JSON form per recording; a trace is a record, a span an attempt of a task."""
    for file in files:
        spans = [_otlp_span(row) for row in _rows(file, "tasks", from_us, to_us)]
        if spans:
            resource = [_attribute("service.name", "drakkar-flow"), _attribute("service.instance.id", file.side.worker)]
            scope = {"scope": {"name": "drakkar_flow.recorder"}, "spans": spans}
            yield _json({"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [scope]}]})


def _otlp_span(row: dict[str, Any]) -> dict[str, Any]:
    record = f"{row['topic_partition']}:{row['offset']}"
    attributes = {
        "drakkar.task_id": row["id"],
        "messaging.destination.name": row["topic_partition"].rpartition(":")[0],
        "messaging.destination.partition.id": row["topic_partition"].rpartition(":")[2],
        "messaging.kafka.offset": row["offset"],
        "process.pid": row["pid"],
        "drakkar.attempt": row["attempt"],
    }
    return {
        "traceId": blake2b(record.encode(errors="replace"), digest_size=16).hexdigest(),
        "spanId": blake2b(f"{row['file']}:{row['key']}".encode(), digest_size=8).hexdigest(),
        "name": row["program"] or "task",
        "kind": 1,
        "startTimeUnixNano": str((row["at_us"] - row["ran_us"]) * 1000),
        "endTimeUnixNano": str(row["at_us"] * 1000),
        "attributes": [_attribute(name, value) for name, value in attributes.items()],
        "status": {"code": 2 if row["status"] == "failed" else 1},
    }


def _attribute(name: str, value: str | int) -> dict[str, Any]:
    return {"key": name, "value": {"stringValue": value} if isinstance(value, str) else {"intValue": str(value)}}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _age(file: RecordedFile) -> tuple[int, str]:
    return file.began_us, file.side.file
