"""Executor protocol: takes tasks in, and reports how each ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from pydantic import BaseModel

from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask

__all__ = ["Done", "Executor", "ExecutorSetup", "ExecutorSpec", "ExecutorStatistics", "Running", "TaskOutcome"]


class ExecutorStatistics(NamedTuple):
    """A snapshot of an executor."""

    running: int
    """Programs that run now; never more than `slots`."""
    waiting: int
    """Tasks that wait for a slot."""
    slots: int
    """How many programs may run at once."""
    ended: int = 0
    """Tasks that needed a program and are over, since the start."""


TaskOutcome = ExecutorResult | ExecutorError

Done = Callable[[TaskOutcome | None], None]
"""Hears how a task ended; None when it was given up. Must not raise."""


class Running(Protocol):
    """A task that an executor has taken in."""

    def cancel(self) -> None:
        """Give the task up: its program is killed and reaped, its slot freed, and then comes `done(None)`.

        May be called more than once; once `done` was called it does nothing.
        """
        ...

    def state(self) -> str:
        """Where the task is now, for people: what it waits for, or the process that has it, and for how long."""
        ...


class Executor(Protocol):
    """Runs tasks that need a program; every method is called on the event loop's thread.

    Callbacks rather than a coroutine per task: at 20,000 tasks/s a coroutine and a future each cost
    more than the task.
    """

    async def start(self) -> None:
        """Get ready to run tasks; raises StartupError with what is missing."""
        ...

    def submit(self, task: ExecutorTask, priority: object, done: Done) -> Running:
        """Take `task` in and call `done` exactly once, on the loop's thread, with how it ended.

        Waiting tasks start by ascending `priority`, then in the order they came. A failed task is a
        value, never an exception. None stands for a task that was given up: it was cancelled, or
        the executor closed. `done` is called before `submit` returns only where the outcome is
        known at once.
        """
        ...

    async def close(self) -> None:
        """Give up what still runs, reap it and end every thread; safe to call twice."""
        ...

    def statistics(self) -> ExecutorStatistics:
        """How much runs and waits now; callable from any thread."""
        ...


class ExecutorSetup(NamedTuple):
    """What the configuration says of every executor, whatever its kind."""

    name: str
    """Its name under `executors`; empty for the default one."""
    slots: int
    """How many tasks may run at once: `max_executors`."""
    timeout_s: float
    """Seconds after which a task is to fail with the kind `timeout`: `task_timeout_seconds`."""
    ok_exit_codes: frozenset[int]
    """Exit codes that are a success, where a task names none of its own."""


@dataclass(frozen=True)
class ExecutorSpec:
    """Everything the library knows about one kind of executor; docs/plugins.md shows a whole one."""

    kind: str
    """The value of `executor.mode`, and the key of the settings beside it."""
    settings_type: type[BaseModel]
    """The model of the settings."""
    make: Callable[[Any, ExecutorSetup], Executor]
    """(settings, setup) -> an executor that is not started yet."""
    api: int = 1
    """The version of the plug-in interface that the spec was written for."""

    def problem(self) -> str:
        """Why the library can't use the spec; empty when it can."""
        settings: Any = self.settings_type  # a plug-in's author may not have a type checker
        return "" if isinstance(settings, type) and issubclass(settings, BaseModel) else "settings_type is no model"
