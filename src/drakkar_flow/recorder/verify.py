"""Verification of a recording: the file, its identity, its side file, and sums that must agree."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from drakkar_flow.recorder.files import connect
from drakkar_flow.recorder.live_file import check_identity
from drakkar_flow.recorder.place import LIVE, side_of
from drakkar_flow.recorder.schema import COLUMNS
from drakkar_flow.recorder.side import read_side, side_from

__all__ = ["faults_of"]

_ENDED_WELL = ("clean", "rotated", "clock_set")


def faults_of(path: Path) -> Iterator[str]:
    """Yield what is wrong with a recording."""
    try:
        with closing(connect(path)) as connection:
            check_identity(connection)
            found = [row[0] for row in connection.execute("PRAGMA quick_check")]
            if found != ["ok"]:
                yield from found
                return
            for table, columns in COLUMNS.items():
                there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
                if missing := set(columns) - there:
                    yield f"table {table} lacks {', '.join(sorted(missing))}"
                    return
            yield from _sums(connection)
            if not path.name.endswith(LIVE):
                yield from _side(path, connection)
    except (sqlite3.Error, ValueError, OSError) as exc:
        yield str(exc)


def _sums(connection: sqlite3.Connection) -> Iterator[str]:
    """Compare the records that were read by ticks and by spans; spans may be behind after a crash."""
    ended = connection.execute("SELECT value FROM meta WHERE name = 'ended'").fetchone()
    ticks = "SELECT text, sum(n) FROM ticks JOIN names ON id = name WHERE kind = 'read' GROUP BY text"
    spans = "SELECT text, sum(n) FROM spans JOIN names ON id = topic_partition WHERE first >= 0 GROUP BY text"
    read, located = dict(connection.execute(ticks).fetchall()), dict(connection.execute(spans).fetchall())
    for name in sorted({*read, *located}):
        by_ticks, by_spans = read.get(name, 0), located.get(name, 0)
        if by_spans > by_ticks or (by_spans < by_ticks and ended is not None and ended[0] in _ENDED_WELL):
            yield f"{name}: {by_ticks} records read by ticks, {by_spans} by spans"
    for table in ("events", "tasks", "traces", "spans"):
        column = "kind" if table == "events" else "topic_partition"
        lost = connection.execute(
            f"SELECT count(*) FROM {table} WHERE {column} IS NOT NULL AND {column} NOT IN (SELECT id FROM names)"  # noqa: S608
        ).fetchone()[0]
        if lost:
            yield f"{lost} rows of {table} have a name that is missing"


def _side(path: Path, connection: sqlite3.Connection) -> Iterator[str]:
    side = read_side(side_of(path))
    if side is None:
        yield f"{side_of(path).name} is missing or damaged; queries open the recording instead"
    elif side != side_from(connection, path.stat().st_size):
        yield f"{side_of(path).name} does not fit the recording"
