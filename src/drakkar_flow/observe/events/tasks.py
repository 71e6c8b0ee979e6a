"""Events of tasks: started, finished, failed, retried."""

from __future__ import annotations

from drakkar_flow.model.record import TopicPartition
from drakkar_flow.model.task import ExecutorError
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.context import NO_CONTEXT, EventContext

__all__ = [
    "DuplicateTasks",
    "RetriesExhausted",
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
    """Tasks were handed to an executor; `executor_name`, here and elsewhere, is empty for the default one."""

    count: int
    executor_name: str = ""


class TasksPrecomputed(Event, frozen=True):
    """Tasks brought their result along."""

    count: int


class DuplicateTasks(Event, frozen=True):
    """Tasks were arranged whose ids are pending in their partition; `task_id` is the first one's. All of them run."""

    topic_partition: TopicPartition
    count: int
    task_id: str
    about: EventContext = NO_CONTEXT


class TaskFinished(Event, frozen=True):
    """A run of a task is over: `status` is completed, failed or cancelled, `kind` why it failed.

    `spawn_s` is 0 when no program was started.
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
    """Tasks ended well in one turn of the loop: how long each took, and how long it waited before."""

    durations_s: tuple[float, ...]
    queue_waits_s: tuple[float, ...]
    executor_name: str = ""


class TaskFailed(Event, frozen=True):
    """A run of a task failed, by `error`; `key` is the key of the first of its records."""

    error: ExecutorError
    about: EventContext = NO_CONTEXT
    key: bytes | None = None


class TaskRetried(Event, frozen=True):
    """A failed task is run again after `delay_s`."""

    task_id: str
    attempt: int
    delay_s: float = 0.0
    about: EventContext = NO_CONTEXT


class RetriesExhausted(Event, frozen=True):
    """A task that was to be run again has had all its attempts; `dead` ones are dead letters, others skipped."""

    task_id: str
    attempts: int
    dead: bool
    error: ExecutorError | None = None
    about: EventContext = NO_CONTEXT


class TaskFellBack(Event, frozen=True):
    """A task that no child can be given is run as a process of its own."""

    task_id: str
    reason: str
    offsets: tuple[int, ...] = ()
    executor_name: str = ""


class WindowFinished(Event, frozen=True):
    """All tasks of a window ended, `duration_s` after it was arranged."""

    topic_partition: TopicPartition
    records: int
    tasks: int
    duration_s: float
