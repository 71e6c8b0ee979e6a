"""Executor of coroutines: a task is a call of an `async` function on the flow's loop."""

from __future__ import annotations

import asyncio
import time
from bisect import insort
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import import_module
from typing import Any

from pydantic import BaseModel

from drakkar_flow.plugins import (
    Done,
    ExecutorError,
    ExecutorResult,
    ExecutorSetup,
    ExecutorSpec,
    ExecutorStatistics,
    ExecutorTask,
    Problem,
    StartupError,
    TaskOutcome,
)

__all__ = ["SPEC", "CoroutineConfig", "CoroutineExecutor"]


class CoroutineConfig(BaseModel):
    """Settings: the function that tasks call."""

    target: str
    """`package.module:function`: an `async` function of the task that returns its output as text."""


class _Job:
    """A task that waits for a slot or runs."""

    def __init__(self, executor: CoroutineExecutor, task: ExecutorTask, done: Done) -> None:
        self.executor = executor
        self.task = task
        self.done = done
        self.run: asyncio.Task[TaskOutcome] | None = None
        self.is_over = False

    def cancel(self) -> None:
        """Cancel the task."""
        if self.is_over:
            return
        if self.run is not None:
            self.run.cancel()
        else:
            self.executor.give_up(self)

    def state(self) -> str:
        """Return the state of the task."""
        if self.is_over:
            return "has ended"
        return "waits for a slot" if self.run is None else "runs on the loop"


class CoroutineExecutor:
    """Calls `target` for each task, at most `setup.slots` at once.

    An exception is a failure with exit code 1. A call that takes longer than `task_timeout_seconds` is cancelled.
    """

    def __init__(self, settings: CoroutineConfig, setup: ExecutorSetup) -> None:
        self._target = settings.target
        self._setup = setup
        self._function: Callable[[ExecutorTask], Awaitable[str]] | None = None
        self._waiting: list[tuple[Any, int, _Job]] = []
        self._running: set[_Job] = set()
        self._submitted = 0
        self._ended = 0

    async def start(self) -> None:
        """Import the function.

        Raises:
            StartupError: the function can't be imported (exit code 2).
        """
        module, _, name = self._target.partition(":")
        try:
            self._function = getattr(import_module(module), name)
        except Exception as error:
            what = f"{self._target!r} can't be loaded: {type(error).__name__}: {error}"
            where = f"executors.{self._setup.name}" if self._setup.name else "executor"
            problem = Problem(f"{where}.coroutine.target", what, "set it to package.module:function")
            raise StartupError([problem], exit_code=2) from error

    def submit(self, task: ExecutorTask, priority: Any, done: Done) -> _Job:
        """Queue a task."""
        job = _Job(self, task, done)
        if self._function is None:
            self._end(job, None)
            return job
        self._submitted += 1
        try:
            insort(self._waiting, (priority, self._submitted, job), key=lambda each: each[:2])
        except TypeError as error:
            self._end(job, ExecutorError(task=task, kind="internal", exception=f"the priority: {error}"))
            return job
        self._fill()
        return job

    async def close(self) -> None:
        """Cancel all tasks, and wait until they have ended."""
        self._function = None
        for _, _, job in list(self._waiting):
            self.give_up(job)
        running = [job.run for job in self._running if job.run is not None]
        for run in running:
            run.cancel()
        if running:
            await asyncio.wait(running)
            await asyncio.sleep(0)  # their callbacks come after them

    def statistics(self) -> ExecutorStatistics:
        """Return the numbers of running and waiting tasks."""
        return ExecutorStatistics(len(self._running), len(self._waiting), self._setup.slots, self._ended)

    def give_up(self, job: _Job) -> None:
        """Remove a waiting job from the queue."""
        self._waiting = [each for each in self._waiting if each[2] is not job]
        self._end(job, None)

    def _fill(self) -> None:
        while self._function is not None and self._waiting and len(self._running) < self._setup.slots:
            _, _, job = self._waiting.pop(0)
            self._running.add(job)
            job.run = asyncio.get_running_loop().create_task(self._call(self._function, job.task))
            job.run.add_done_callback(partial(self._called, job))

    async def _call(self, function: Callable[[ExecutorTask], Awaitable[str]], task: ExecutorTask) -> TaskOutcome:
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._setup.timeout_s):
                stdout = await function(task)
        except TimeoutError:
            error = ExecutorError(task=task, kind="timeout", exception=f"no end within {self._setup.timeout_s:g} s")
        except Exception as exc:
            error = ExecutorError(task=task, exit_code=1, exception=f"{type(exc).__name__}: {exc}")
        else:
            return ExecutorResult(task=task, stdout=stdout, duration_seconds=time.monotonic() - started)
        error.duration_seconds = time.monotonic() - started
        return error

    def _called(self, job: _Job, run: asyncio.Task[TaskOutcome]) -> None:
        self._running.discard(job)
        self._end(job, None if run.cancelled() else run.result())
        self._fill()

    def _end(self, job: _Job, outcome: TaskOutcome | None) -> None:
        job.is_over = True
        if self._submitted:
            self._ended += 1
        job.done(outcome)


SPEC = ExecutorSpec("coroutine", CoroutineConfig, CoroutineExecutor)
"""Spec of the executor kind `coroutine`."""
