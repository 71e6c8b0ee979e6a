"""Executor protocol: runs tasks and reports the outcome of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from pydantic import BaseModel

from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask

__all__ = ["Done", "Executor", "ExecutorSetup", "ExecutorSpec", "ExecutorStatistics", "Running", "TaskOutcome"]


class ExecutorStatistics(NamedTuple):
    """Snapshot of an executor."""

    running: int
    """Programs that run now, at most `slots`."""
    waiting: int
    """Tasks that wait for a slot."""
    slots: int
    """Programs that may run at once."""
    ended: int = 0
    """Tasks that needed a program and have ended, since the start."""


TaskOutcome = ExecutorResult | ExecutorError

Done = Callable[[TaskOutcome | None], None]
"""Callback for the outcome of a task; None if the task was cancelled. Must not raise."""


class Running(Protocol):
    """A task that an executor has accepted."""

    def cancel(self) -> None:
        """Cancel the task: kill and reap its program, free its slot, then call `done(None)`.

        May be called more than once; has no effect after `done` was called.
        """
        ...

    def state(self) -> str:
        """State of the task as text for operators: its process, or the reason why it waits, and for how long."""
        ...


class Executor(Protocol):
    """Runs tasks that need a program; every method is called on the event loop's thread.

    Outcomes are reported by callbacks: at 20,000 tasks/s a coroutine and a future per task would each cost
    more than the task.
    """

    async def start(self) -> None:
        """Prepare to run tasks.

        Raises:
            StartupError: a dependency is missing; the problems name it.
        """
        ...

    def submit(self, task: ExecutorTask, priority: object, done: Done) -> Running:
        """Accept `task` and call `done` exactly once, on the loop's thread, with its outcome.

        Waiting tasks start by ascending `priority`, then in arrival order. A failed task is a
        value, never an exception. The outcome is None if the task was cancelled or the executor
        closed. `done` is called before `submit` returns only if the outcome is known at once.
        """
        ...

    async def close(self) -> None:
        """Cancel unfinished tasks, reap their programs and end every thread; safe to call twice."""
        ...

    def statistics(self) -> ExecutorStatistics:
        """Return the numbers of running and waiting tasks; callable from any thread."""
        ...


class ExecutorSetup(NamedTuple):
    """Settings that executors of every kind have."""

    name: str
    """Name under `executors`; empty for the default executor."""
    slots: int
    """Tasks that may run at once: `max_executors`."""
    timeout_s: float
    """Seconds after which a task must fail with the kind `timeout`: `task_timeout_seconds`."""
    ok_exit_codes: frozenset[int]
    """Exit codes that count as success, unless the task has its own."""


@dataclass(frozen=True)
class ExecutorSpec:
    """Definition of one kind of executor; docs/plugins.md has a complete example."""

    kind: str
    """Value of `executor.mode`, and the key of the kind's settings beside it."""
    settings_type: type[BaseModel]
    """Model of the settings."""
    make: Callable[[Any, ExecutorSetup], Executor]
    """(settings, setup) -> an executor that is not started yet."""
    api: int = 1
    """Version of the plug-in interface that the spec was written for."""

    def problem(self) -> str:
        """Return the reason why the spec is invalid; empty if it is valid."""
        settings: Any = self.settings_type  # a plug-in may be written without a type checker
        is_model = isinstance(settings, type) and issubclass(settings, BaseModel)
        return "" if is_model else "settings_type is not a pydantic model: derive it from BaseModel"
