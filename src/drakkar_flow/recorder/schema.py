"""Schema of a recording: tables, indexes, and the statement that inserts many rows at once."""

from __future__ import annotations

from typing import Final

from drakkar_flow.storage.sqlite import MAX_VARIABLES

__all__ = ["APPLICATION_ID", "COLUMNS", "CREATE", "DETAILS", "TABLES", "VERSION", "insert"]

APPLICATION_ID: Final = 0x444B464C
VERSION: Final = 1

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "names": ("id", "kind", "text"),
    "ticks": ("second", "span", "name", "n", "size", "total", "peak", "buckets"),
    "spans": (
        *("key", "topic_partition", "epoch", "first", "last", "n", "size", "read_from_us", "read_to_us"),
        *("passed", "passed_us", "finished"),
    ),
    "faults": ("id", "kind", "stage", "what", "text", "frame", "n", "first_us", "last_us", "sample"),
    "events": ("key", "kind", "topic_partition", "offset", "fault", "task", "weight", "detail"),
    "tasks": (
        *("key", "topic_partition", "offset", "last", "id", "hash", "program", "slot", "pid", "attempt", "status"),
        *("exit_code", "queued_us", "spawn_us", "ran_us", "weight", "parent"),
    ),
    "traces": ("key", "topic_partition", "offset", "step", "took_us", "event"),
    "outputs": ("key", "hash", "task", "stream", "size", "data"),
}
"""Columns by table. Topic partition, program, step, stream, name and kind of events are numbers of `names`."""

TABLES: Final = tuple(COLUMNS)
DETAILS: Final = ("events", "tasks", "traces", "outputs")
"""Tables that are given up before ticks, spans and faults."""

_REPLACED: Final = {"ticks", "faults", "names"}
_INDEXES: Final = (
    "CREATE INDEX tasks_record ON tasks(topic_partition, offset, last)",
    "CREATE INDEX tasks_hash ON tasks(hash)",
    "CREATE INDEX events_record ON events(topic_partition, offset) WHERE topic_partition IS NOT NULL",
    "CREATE INDEX events_fault ON events(fault) WHERE fault IS NOT NULL",
    "CREATE INDEX spans_last ON spans(topic_partition, last)",
    "CREATE INDEX traces_record ON traces(topic_partition, offset)",
    "CREATE INDEX outputs_hash ON outputs(hash)",
)


def _table(name: str, columns: tuple[str, ...]) -> str:
    if name == "ticks":
        return "CREATE TABLE ticks(" + ", ".join(columns) + ", PRIMARY KEY(second, name, span)) WITHOUT ROWID"
    first, *others = columns
    return f"CREATE TABLE {name}({first} INTEGER PRIMARY KEY, {', '.join(others)})"


CREATE: Final = (
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    *(_table(name, columns) for name, columns in COLUMNS.items()),
    *_INDEXES,
)


def insert(table: str, rows: int) -> str:
    """Return the statement that inserts a number of rows: one statement, because each statement waits for the GIL."""
    columns = COLUMNS[table]
    verb = "INSERT OR REPLACE" if table in _REPLACED else "INSERT"
    values = ",".join(["(" + ",".join("?" * len(columns)) + ")"] * rows)
    return f"{verb} INTO {table}({','.join(columns)}) VALUES {values}"


def rows_per_statement(table: str) -> int:
    """Return how many rows fit into one statement."""
    return MAX_VARIABLES // len(COLUMNS[table])
