"""Recording: reads the files of any number of workers, live and ended ones.

Every query has a budget of time and says which period its answer covers. Pages go by key: a cursor is the last row's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import nlargest
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from zlib import decompress

import msgspec

from drakkar_flow.recorder.conversion import (
    STATUS,
    both,
    event_of,
    fault_of,
    origin_of,
    point_of,
    span_of,
    task_of,
)
from drakkar_flow.recorder.files import Budget, RecordedFile, find_files
from drakkar_flow.recorder.fold.keys import key_of, us_of
from drakkar_flow.recorder.fold.samples import id_hash
from drakkar_flow.recorder.fold.ticks import fold
from drakkar_flow.recorder.rows import (
    Answer,
    Cursor,
    EventSeen,
    FaultSeen,
    OutputSeen,
    RecordStory,
    TaskSeen,
    TickPoint,
    TraceSeen,
)

__all__ = ["BUDGET_S", "Recording"]

BUDGET_S = 0.15
"""Seconds that a query may take."""

_FOREVER_US = 1 << 58
_EVENT = "key, kind, topic_partition, offset, fault, task, weight, detail"
_TASK = (
    "key, topic_partition, offset, last, id, program, slot, pid, attempt, status, exit_code, queued_us, spawn_us,"
    " ran_us, weight, parent"
)
_TASK_REACH = 10_000  # offsets between the first and the last record of a task

T = TypeVar("T", EventSeen, TaskSeen)


class Recording:
    """The recordings below one or more directories, read-only. Use an instance on one thread at a time.

    A query takes at most `budget_s`. An answer that is not `complete` says what it covers; `following` goes on there.

    Names of topic partitions are `topic:partition`. Times are microseconds since the epoch.

    >>> with Recording("/nowhere") as recording:
    ...     recording.faults().rows, recording.failures().rows
    ([], [])
    """

    def __init__(self, *places: str | Path, budget_s: float = BUDGET_S) -> None:
        self._places = [Path(place) for place in places]
        self._budget_s = budget_s
        self._known: dict[Path, RecordedFile] = {}
        self._faulty: dict[Path, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        for file in self._known.values():
            file.close()
        self._known.clear()

    def files(self) -> list[RecordedFile]:
        """Return the files that are there now, newest first."""
        files, self._faulty = find_files(self._places, self._known)
        return files

    @property
    def faulty(self) -> dict[Path, str]:
        """Files of the last query that were left out: no recordings, damaged, or of a newer version."""
        return dict(self._faulty)

    # --- one record, one task ---------------------------------------------------------------------

    def record(self, topic: str, partition: int, offset: int) -> RecordStory:
        """Return the story of a record, on all workers and over all assignments."""
        budget, name = Budget(self._budget_s), f"{topic}:{partition}"
        story = RecordStory((topic, partition), offset, [], [], [], [])
        complete = True
        for file in self.files():
            if not file.is_live and not file.side.may_have_record(name, offset):
                continue
            if budget.is_over:
                complete = False
                break
            number = self._number(file, "topic_partition", name)
            if number is not None:
                complete &= self._add_to_story(story, file, number, budget)
        for rows in (story.spans, story.tasks, story.events, story.traces):
            rows.sort(key=lambda row: row.key)
        return msgspec.structs.replace(story, complete=complete)

    def _add_to_story(self, story: RecordStory, file: RecordedFile, number: int, budget: Budget) -> bool:
        offset, at = story.offset, (number, story.offset)
        reads, complete = self._rows(
            file,
            "SELECT key, epoch, first, last, read_from_us, read_to_us FROM spans"
            " WHERE topic_partition = ? AND last >= ? AND first <= ? AND first >= 0",
            (number, offset, offset),
            budget,
        )
        for read in reads:
            passed, whole = self._rows(
                file,
                "SELECT passed_us FROM spans WHERE key >= ? AND topic_partition = ? AND epoch = ? AND passed > ?"
                " ORDER BY key LIMIT 1",
                (read[0], number, read[1], offset),
                budget,
            )
            complete &= whole
            story.spans.append(span_of(file, read, passed[0][0] if passed else None))
        tasks, whole = self._rows(
            file,
            f"SELECT {_TASK} FROM tasks WHERE topic_partition = ? AND offset BETWEEN ? AND ? AND last >= ?",  # noqa: S608 - ours
            (number, offset - _TASK_REACH, offset, offset),
            budget,
        )
        complete &= whole
        story.tasks.extend(task_of(file, row) for row in tasks)
        traces, whole = self._rows(
            file, "SELECT key, step, took_us, event FROM traces WHERE topic_partition = ? AND offset = ?", at, budget
        )
        complete &= whole
        story.traces.extend(
            TraceSeen(*origin_of(file), row[0], us_of(row[0]), file.name(row[1]), row[2])
            for row in traces
            if row[3] is None
        )
        others = [row[3] for row in traces if row[3] is not None]
        events, whole = self._rows(
            file,
            f"SELECT {_EVENT} FROM events WHERE (topic_partition = ? AND offset = ?)"  # noqa: S608 - ours
            f" OR key IN ({','.join('?' * len(others))})",
            (*at, *others),
            budget,
        )
        story.events.extend(event_of(file, row) for row in events)
        return complete and whole

    def task(self, task_id: str) -> Answer[TaskSeen]:
        """Return the attempts of a task, on all workers."""
        rows: list[TaskSeen] = []
        statement = f"SELECT {_TASK} FROM tasks WHERE hash = ? AND id = ?"  # noqa: S608 - ours
        complete = True
        for file, found, whole in self._by_task(task_id, statement):
            rows += [task_of(file, row) for row in found]
            complete &= whole
        rows.sort(key=lambda row: row.key)
        return Answer(rows, *self._period(), complete)

    def outputs(self, task_id: str) -> Answer[OutputSeen]:
        """Return the recorded streams of a task."""
        rows: list[OutputSeen] = []
        complete = True
        statement = "SELECT key, task, stream, size, data FROM outputs WHERE hash = ? AND task = ?"
        for file, found, whole in self._by_task(task_id, statement):
            complete &= whole
            for key, task, stream, size, data in found:
                text = decompress(data).decode(errors="replace")
                rows.append(OutputSeen(*origin_of(file), key, us_of(key), task, file.name(stream), size, text))
        rows.sort(key=lambda row: row.key)
        return Answer(rows, *self._period(), complete)

    def _by_task(self, task_id: str, statement: str) -> Iterator[tuple[RecordedFile, list[tuple[Any, ...]], bool]]:
        budget = Budget(self._budget_s)
        for file in self.files():
            if file.is_live or file.side.may_have_task(task_id):
                found, whole = self._rows(file, statement, (id_hash(task_id), task_id), budget)
                yield file, found, whole

    # --- pages ------------------------------------------------------------------------------------

    def events(
        self,
        *,
        limit: int = 100,
        from_us: int = 0,
        to_us: int = _FOREVER_US,
        before: Cursor | None = None,
        kinds: Iterable[str] = (),
        fault: int | None = None,
    ) -> Answer[EventSeen]:
        """Return a page of events, newest first: of some kinds, or of one fault."""
        wanted = frozenset(kinds)

        def chosen(file: RecordedFile) -> tuple[str, list[Any]] | None:
            if fault is not None:
                return "fault = ?", [fault]
            if not wanted:
                return "1", []
            numbers = [number for kind in wanted if (number := file.id("event", kind)) is not None]
            return (f"kind IN ({','.join('?' * len(numbers))})", [*numbers]) if numbers else None

        return self._page(f"SELECT {_EVENT} FROM events", chosen, event_of, limit, from_us, to_us, before)  # noqa: S608

    def failures(self, *, limit: int = 100, before: Cursor | None = None) -> Answer[EventSeen]:
        """Return a page of the events that belong to a fault, newest first."""
        statement = f"SELECT {_EVENT} FROM events"  # noqa: S608 - ours
        return self._page(statement, lambda _: ("fault IS NOT NULL", []), event_of, limit, 0, _FOREVER_US, before)

    def tasks(
        self,
        *,
        limit: int = 100,
        from_us: int = 0,
        to_us: int = _FOREVER_US,
        before: Cursor | None = None,
        status: str = "",
        longer_than_us: int = 0,
    ) -> Answer[TaskSeen]:
        """Return a page of the tasks that ended in a period, newest first."""
        where, values = "ran_us >= ?", [longer_than_us]
        if status:
            where, values = f"{where} AND status = ?", [*values, STATUS.index(status)]
        statement = f"SELECT {_TASK} FROM tasks"  # noqa: S608 - ours
        return self._page(statement, lambda _: (where, values), task_of, limit, from_us, to_us, before)

    def _page(
        self,
        statement: str,
        chosen: Callable[[RecordedFile], tuple[str, list[Any]] | None],
        row_of: Callable[[RecordedFile, Sequence[Any]], T],
        limit: int,
        from_us: int,
        to_us: int,
        before: Cursor | None,
    ) -> Answer[T]:
        budget = Budget(self._budget_s)
        files = [file for file in self.files() if file.ended_us >= from_us and file.began_us <= to_us]
        rows: list[T] = []
        uncertain_us, complete = from_us, True
        highest = min(key_of(to_us + 1) - 1, before[0] if before is not None else 1 << 62)
        for index, file in enumerate(files):
            if len(rows) >= limit and min(row.key for row in rows) > key_of(file.ended_us + 1):
                break
            if budget.is_over:
                uncertain_us, complete = max(each.ended_us for each in files[index:]), False
                break
            where: str
            values: list[Any]
            where, values = self._where(file, chosen)
            if not where:
                continue
            bounds: list[Any] = [highest, key_of(from_us), limit + 2]  # the cursor's row, and one of the next page
            found, whole = self._rows(
                file,
                f"{statement} WHERE {where} AND key <= ? AND key >= ? ORDER BY key DESC LIMIT ?",
                [*values, *bounds],
                budget,
            )
            rows += [row_of(file, row) for row in found]
            if not whole:
                uncertain_us, complete = us_of(found[-1][0]) if found else file.ended_us, False
                break
            rows = nlargest(limit + 1, [row for row in rows if before is None or (row.key, row.file) < before], _place)
        rows = [row for row in rows if before is None or (row.key, row.file) < before]
        rows = nlargest(limit + 1, [row for row in rows if row.at_us >= uncertain_us], _place)
        more = len(rows) > limit
        rows = rows[:limit]
        covered_from = rows[-1].at_us if more else uncertain_us
        following = (rows[-1].key, rows[-1].file) if more else None if complete else (key_of(uncertain_us), "")
        began, ended = self._period(files)
        return Answer(rows, max(covered_from, began), min(to_us, ended), complete, following)

    def _where(
        self, file: RecordedFile, chosen: Callable[[RecordedFile], tuple[str, list[Any]] | None]
    ) -> tuple[str, list[Any]]:
        try:
            return chosen(file) or ("", [])
        except sqlite3.Error as exc:
            self._faulty[file.path] = str(exc)
            return "", []

    # --- sums -------------------------------------------------------------------------------------

    def ticks(
        self,
        from_us: int = 0,
        to_us: int = _FOREVER_US,
        *,
        step_s: int = 1,
        kinds: Iterable[str] = (),
        worker: str = "",
    ) -> Answer[tuple[tuple[str, str], list[TickPoint]]]:
        """Return the sums of each name by steps of time, over all workers or of one, exact but for partial steps.

        Values of gauges are added up as well: divide `total` by the reads of one worker, or ask for one worker.
        """
        budget, wanted = Budget(self._budget_s), frozenset(kinds)
        sums: dict[tuple[str, str], list[Any]] = {}
        files = [file for file in self.files() if file.ended_us >= from_us and file.began_us <= to_us]
        since_us = from_us
        first = from_us // 1_000_000 - from_us // 1_000_000 % step_s
        for file in files:
            if worker and file.side.worker != worker:
                continue
            found, whole = self._rows(
                file,
                "SELECT second, span, name, n, size, total, peak, buckets FROM ticks WHERE second >= ? AND second <= ?",
                (first, min(to_us // 1_000_000, 1 << 40)),
                budget,
            )
            if not whole:
                since_us = max(since_us, file.ended_us)
            for row in found:
                kind = file.kind(row[2])
                if not wanted or kind in wanted:
                    sums.setdefault((kind, file.name(row[2])), []).append((*row[:2], 0, *row[3:]))
        rows = [(name, [point_of(row) for row in fold(some, step_s)]) for name, some in sorted(sums.items())]
        began, ended = self._period(files)
        return Answer(rows, max(since_us, began), min(to_us, ended), since_us == from_us)

    def faults(self, from_us: int = 0, to_us: int = _FOREVER_US) -> Answer[FaultSeen]:
        """Return the problems of a period, most frequent first; counts are those of whole files."""
        budget = Budget(self._budget_s)
        files = [file for file in self.files() if file.ended_us >= from_us and file.began_us <= to_us]
        found: dict[int, FaultSeen] = {}
        since_us = from_us
        for file in files:
            rows, whole = self._rows(
                file,
                "SELECT id, kind, stage, what, text, frame, n, first_us, last_us, sample FROM faults"
                " WHERE last_us >= ? AND first_us <= ?",
                (from_us, to_us),
                budget,
            )
            if not whole:
                since_us = max(since_us, file.ended_us)
            for row in rows:
                seen = fault_of(row, file.side.worker)
                found[seen.id] = both(found[seen.id], seen) if seen.id in found else seen
        ordered = sorted(found.values(), key=lambda each: (-each.count, each.id))
        began, ended = self._period(files)
        return Answer(ordered, max(since_us, began), min(to_us, ended), since_us == from_us)

    # --- files ------------------------------------------------------------------------------------

    def _rows(
        self, file: RecordedFile, statement: str, values: Sequence[Any], budget: Budget
    ) -> tuple[list[tuple[Any, ...]], bool]:
        if budget.is_over:
            return [], False
        try:
            return file.rows(statement, values, budget)
        except sqlite3.Error as exc:
            if file.path.exists():  # else it was sealed or removed in between
                self._faulty[file.path] = str(exc)
            return [], False

    def _number(self, file: RecordedFile, kind: str, text: str) -> int | None:
        try:
            return file.id(kind, text)
        except sqlite3.Error as exc:
            self._faulty[file.path] = str(exc)
            return None

    def _period(self, files: list[RecordedFile] | None = None) -> tuple[int, int]:
        files = [*self._known.values()] if files is None else files
        return min((file.began_us for file in files), default=0), max((file.ended_us for file in files), default=0)


def _place(row: EventSeen | TaskSeen) -> tuple[int, str]:
    return row.key, row.file
