"""Events of tasks: started, finished, failed, retried."""

from __future__ import annotations

import msgspec

from drakkar_flow.model.record import TopicPartition
from drakkar_flow.model.task import ExecutorError, ExecutorResult
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.context import NO_CONTEXT, EventContext

__all__ = [
    "DuplicateTasks",
    "LongTaskRan",
    "RetriesExhausted",
    "TaskAttempt",
    "TaskAttempts",
    "TaskFailed",
    "TaskFellBack",
    "TaskFinished",
    "TaskRetried",
    "TasksCompleted",
    "TasksPrecomputed",
    "TasksStarted",
    "WindowFinished",
]


class TasksStarted(Event, frozen=True):
    """Tasks were submitted to an executor; `executor_name`, here and elsewhere, is empty for the default one."""

    count: int
    executor_name: str = ""


class TasksPrecomputed(Event, frozen=True):
    """Precomputed tasks: they have a result already."""

    count: int


class DuplicateTasks(Event, frozen=True):
    """Tasks with ids that are pending in their partition already; `task_id` is the first id. All of them run."""

    topic_partition: TopicPartition
    count: int
    task_id: str
    about: EventContext = NO_CONTEXT


class TaskFinished(Event, frozen=True):
    """A run of a task ended: `status` is completed, failed or cancelled, `kind` the kind of failure.

    `spawn_s` is 0 if no program was started.
    """

    status: str
    kind: str
    duration_s: float
    queue_wait_s: float
    spawn_s: float
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    executor_name: str = ""


class TasksCompleted(Event, frozen=True):
    """Tasks completed in one turn of the loop, with the duration and the wait of each."""

    durations_s: tuple[float, ...]
    queue_waits_s: tuple[float, ...]
    executor_name: str = ""


class TaskAttempt(msgspec.Struct, frozen=True, gc=False):
    """One ended attempt of a task.

    * `offset` and `last` are the first and the last of its records; `status` is completed, failed or cancelled.
    * `ended_at` is on the monotonic clock; durations are in seconds.
    * `slot` is the slot or the number of the child; it and `pid` are -1 without one.
    * `attempt` counts from 1. `program` is the name of its executor, empty for the default one, and the task's own
      program, empty for the executor's.
    """

    task_id: str
    topic_partition: TopicPartition
    offset: int
    last: int
    status: str
    exit_code: int | None
    ended_at: float
    queue_wait_s: float
    spawn_s: float
    duration_s: float
    pid: int
    slot: int
    attempt: int
    program: tuple[str, ...]
    parent: str | None = None


class TaskAttempts(Event, frozen=True):
    """Attempts of tasks that ended in one turn of the loop; made only while a listener needs it."""

    attempts: tuple[TaskAttempt, ...]


class LongTaskRan(Event, frozen=True):
    """A task succeeded after `debug.output_min_duration_ms` or longer; made only while a listener needs it."""

    result: ExecutorResult
    about: EventContext = NO_CONTEXT


class TaskFailed(Event, frozen=True):
    """A run of a task failed with `error`; `key` is the key of its first record."""

    error: ExecutorError
    about: EventContext = NO_CONTEXT
    key: bytes | None = None


class TaskRetried(Event, frozen=True):
    """A failed task is retried after `delay_s`."""

    task_id: str
    attempt: int
    delay_s: float = 0.0
    about: EventContext = NO_CONTEXT


class RetriesExhausted(Event, frozen=True):
    """A task has used all its attempts; `dead` is True if its records are dead-lettered, else the task is skipped."""

    task_id: str
    attempts: int
    dead: bool
    error: ExecutorError | None = None
    about: EventContext = NO_CONTEXT


class TaskFellBack(Event, frozen=True):
    """A task that no child can run falls back to a separate process."""

    task_id: str
    reason: str
    offsets: tuple[int, ...] = ()
    executor_name: str = ""


class WindowFinished(Event, frozen=True):
    """All tasks of a window ended, `duration_s` after `arrange`."""

    topic_partition: TopicPartition
    records: int
    tasks: int
    duration_s: float
