"""Windows and groups: the records of a task, and the windows and groups that its end completes.

Pure accounting: no I/O, clock or thread. A group keeps its record's credit in a credit pool and gives a share to each
payload. The rest returns when the group is closed, so a record is finished when its tasks have ended, its hooks have
run and its payloads are delivered, in any order.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

import msgspec

from drakkar_flow.executor.base import Running
from drakkar_flow.kernel.ordering import Keys
from drakkar_flow.model.group import MessageGroup
from drakkar_flow.model.outcome import AckToken
from drakkar_flow.model.record import Record, TopicPartition
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask
from drakkar_flow.observe.events.context import EventContext
from drakkar_flow.runtime.acknowledgement.credit import CreditPool

__all__ = ["Arranged", "FiredTimers", "RecordProgress", "TaskEnd", "TaskRun", "WindowRun", "are_tasks"]


class TaskEnd(Enum):
    """Final result of a task."""

    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    DEAD = "dead"
    REPLACED = "replaced"
    FENCED = "fenced"


_BADNESS = {TaskEnd.SUCCEEDED: 0, TaskEnd.SKIPPED: 1, TaskEnd.DEAD: 2, TaskEnd.FENCED: 3}


class RecordProgress(msgspec.Struct, eq=False, gc=False):
    """One record of a window: its credit and its unfinished tasks."""

    record: Record
    credit_pool: CreditPool
    message: MessageGroup | None = None
    tasks: int = 0
    open: int = 0
    closed: bool = False
    """True if no more hooks are called for it."""
    worst: TaskEnd = TaskEnd.SUCCEEDED

    def record_end(self, run: TaskRun) -> None:
        """Count a task that did not succeed; a replaced task counts by its replacements."""
        if run.ending is TaskEnd.REPLACED or run.ending is None:
            return
        self.worst = max(self.worst, run.ending, key=_BADNESS.__getitem__)
        if self.message is not None and run.error is not None:
            self.message.errors.append(run.error)

    def hold(self) -> AckToken:
        """Return a share of the record's credit, for a payload or a failure on its way."""
        return (self.record, self.credit_pool.allocate())

    def last_token(self) -> AckToken:
        """Return a share for the last payload of a hook: all credit left, if no more results of the record follow.

        A record that returns in one piece costs the tracker a third of one that returns in two.
        """
        if self.closed and self.worst is TaskEnd.SUCCEEDED:
            return (self.record, self.credit_pool.drain())
        return self.hold()


class TaskRun(msgspec.Struct, eq=False):
    """One task on its way: its records, and its result."""

    task: ExecutorTask
    in_progress: tuple[RecordProgress, ...]
    window: WindowRun
    ending: TaskEnd | None = None
    result: ExecutorResult | None = None
    error: ExecutorError | None = None
    generation: int = 0
    """Number of replacements that led to this task."""
    keys: Keys = ()
    """Ordering keys."""
    retries: int = 0
    failed_at: float = 0.0
    """Time of its first failure."""
    running: Running | None = None
    """Set while the executor has it."""
    interruptions: int = 0
    """Runs that did not count, because Ctrl-C ended them before they began."""
    output_size: int = 0
    """Bytes that its last attempt wrote."""
    program: tuple[str, ...] = ()
    """Executor and program that its task names; empty if it is precomputed."""
    mark: int | None = None
    """Count of successes of its program at the time it failed."""
    cache_key: str = ""
    """Key of its result in the cache; empty if the result is not stored."""
    looked_up: bool = False
    """True once the cache was asked for its result."""
    decided_by: str = ""
    """Setting that decides about its failure; empty if `on_error` did."""

    def end(
        self, ending: TaskEnd, *, result: ExecutorResult | None = None, error: ExecutorError | None = None
    ) -> TaskRun:
        """Set the result."""
        self.ending = ending
        self.result = result
        self.error = error
        return self

    def hook_failed(self, reason: str) -> None:
        """Count as failed for the hooks that follow: exit code -1 in its window, an error in its group."""
        result = self.result
        if isinstance(result, ExecutorResult):
            self.result = None
            self.error = ExecutorError(
                task=self.task,
                kind="internal",
                exception=reason,
                stdout=result.stdout,
                stderr=result.stderr,
                pid=result.pid,
                duration_seconds=result.duration_seconds,
                stdout_truncated=result.stdout_truncated,
                stderr_truncated=result.stderr_truncated,
            )

    @property
    def about(self) -> EventContext:
        """Event context: its records and its id."""
        return EventContext.of((progress.record for progress in self.in_progress), (self.task.task_id,))

    @property
    def first_record(self) -> Record:
        """First record it works for: it gives the task its name and its fence."""
        return self.in_progress[0].record


class FiredTimers(msgspec.Struct, eq=False):
    """Timers that fired with a window: a share of its first record, and what `on_timer` answered for each of them.

    An answer is the value of the call, its error, and the seconds it took.
    """

    progress: RecordProgress
    answers: list[tuple[Any, BaseException | None, float]]


class WindowRun:
    """A window of records of one partition from arrange to its last task.

    `keep_messages` is True if a hook needs each record's MessageGroup: they cost more than all other accounting
    together.
    """

    __slots__ = ("_by_offset", "hooked", "in_progress", "open", "results", "started_at", "tasks", "topic_partition")

    def __init__(self, records: Iterable[Record], started_at: float, *, keep_messages: bool) -> None:
        if keep_messages:
            self.in_progress = [
                RecordProgress(r, CreditPool(r.credit), MessageGroup(source_message=r, started_at=started_at))
                for r in records
            ]
        else:
            self.in_progress = [RecordProgress(record, CreditPool(record.credit)) for record in records]
        self.topic_partition: TopicPartition = self.in_progress[0].record.topic_partition
        self.started_at = started_at
        self.open = 0
        self.tasks = 0
        self.hooked = False  # on_window_complete has answered
        self.results: list[ExecutorResult] = []
        self._by_offset: dict[int, tuple[RecordProgress, ...]] = {
            progress.record.offset: (progress,) for progress in self.in_progress
        }
        if len(self._by_offset) < len(self.in_progress):  # shares of one record, which `flat_map` made
            self._by_offset.clear()
            for progress in self.in_progress:
                self._by_offset[progress.record.offset] = (*self._by_offset.get(progress.record.offset, ()), progress)

    @property
    def records(self) -> list[Record]:
        """Records of the window."""
        return [progress.record for progress in self.in_progress]

    def attribute(self, task: ExecutorTask) -> TaskRun:
        """Add a task, attributed to the records it names.

        Offsets that are not in the window are ignored. A task without any works for every record of the window, so that
        none of them is committed before it has ended.
        """
        by_offset = self._by_offset
        if len(task.source_offsets) == 1:
            in_progress = by_offset.get(task.source_offsets[0], ())
        else:
            in_progress = tuple(
                progress for offset in dict.fromkeys(task.source_offsets) for progress in by_offset.get(offset, ())
            )
        in_progress = in_progress or tuple(self.in_progress)
        for progress in in_progress:
            progress.open += 1
            progress.tasks += 1
            if progress.message is not None:
                progress.message.tasks.append(task)
        self.open += 1
        self.tasks += 1
        return TaskRun(task, in_progress, self)

    def replace(self, run: TaskRun, tasks: Iterable[ExecutorTask]) -> list[TaskRun]:
        """Add the replacements of `run`, before `run` itself is settled."""
        runs = []
        for task in tasks:
            if task.parent_task_id is None:
                task.parent_task_id = run.task.task_id
            replacement = self.attribute(task)
            replacement.generation = run.generation + 1
            runs.append(replacement)
        return runs

    def settle(self, run: TaskRun) -> list[RecordProgress]:
        """Note the end of a task; returns the groups whose last task it was."""
        self.open -= 1
        if run.result is not None:
            self.results.append(run.result)
        elif run.error is not None and run.ending is not TaskEnd.REPLACED:
            self.results.append(_left_by(run.error))
        finished = []
        for progress in run.in_progress:
            progress.open -= 1
            if run.ending is not TaskEnd.SUCCEEDED:
                progress.record_end(run)
            elif progress.message is not None and run.result is not None:
                progress.message.results.append(run.result)
            elif progress.message is not None and run.error is not None:
                progress.message.errors.append(run.error)
            if progress.open == 0:
                finished.append(progress)
        return finished

    def empty_groups(self) -> list[RecordProgress]:
        """Return the records without tasks."""
        return [progress for progress in self.in_progress if progress.tasks == 0]

    @property
    def finished(self) -> bool:
        """True if all tasks have ended."""
        return self.open == 0


Arranged = FiredTimers | WindowRun | TaskRun
"""Items that a window becomes, in this order."""


def _left_by(error: ExecutorError) -> ExecutorResult:
    """Return the result that a failed task counts as in its window."""
    return ExecutorResult(
        task=error.task,
        exit_code=-1 if error.exit_code is None else error.exit_code,
        stdout=error.stdout,
        stderr=error.stderr,
        duration_seconds=error.duration_seconds,
        pid=error.pid,
        stdout_truncated=error.stdout_truncated,
        stderr_truncated=error.stderr_truncated,
        raw_stdout=error.raw_stdout,
        raw_stderr=error.raw_stderr,
    )


def are_tasks(value: Any) -> bool:
    """Return True if a hook returned a list of tasks that have an id and name their offsets as numbers."""
    if not isinstance(value, (list, tuple)):
        return False
    for task in value:
        if type(task) is not ExecutorTask or type(task.task_id) is not str:
            return False
        offsets: Any = task.source_offsets
        if type(offsets) is list and len(offsets) == 1 and type(offsets[0]) is int:  # most, and so cheaper
            continue
        if not isinstance(offsets, (list, tuple)) or not all(isinstance(offset, int) for offset in offsets):
            return False
    return True
