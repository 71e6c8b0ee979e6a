"""Events about tasks that failed."""

from __future__ import annotations

from drakkar_flow.model.task import ExecutorError
from drakkar_flow.observe.about import NOTHING, About
from drakkar_flow.observe.events import Event

__all__ = ["RetriesExhausted", "TaskFailed", "TaskRetried"]


class TaskFailed(Event, frozen=True):
    """A run of a task failed, by `error`; `key` is the key of the first of its records."""

    error: ExecutorError
    about: About = NOTHING
    key: bytes | None = None


class TaskRetried(Event, frozen=True):
    """A failed task is run again after `delay_s`."""

    task_id: str
    attempt: int
    delay_s: float = 0.0
    about: About = NOTHING


class RetriesExhausted(Event, frozen=True):
    """A task that was to be run again has had all its attempts; `dead` ones are dead letters, others skipped."""

    task_id: str
    attempts: int
    dead: bool
    error: ExecutorError | None = None
    about: About = NOTHING
