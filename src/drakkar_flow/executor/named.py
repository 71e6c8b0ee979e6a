"""Named executors: each task runs in the one it names."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from drakkar_flow.errors import Problem, StartupError
from drakkar_flow.executor.base import Done, Executor, ExecutorStatistics, Running
from drakkar_flow.model.task import ExecutorTask

__all__ = ["NamedExecutors"]


class NamedExecutors:
    """Runs each task by the executor of its name; the name of the default one is empty, or `default`.

    Each has separate slots, queue, limits and environment. All of them together bound the intake.
    """

    def __init__(self, executors: Mapping[str, Executor]) -> None:
        self._executors = dict(executors)
        self._by_name = {**executors, "default": executors[""]}

    async def start(self) -> None:
        """Start all of them concurrently.

        Raises:
            StartupError: with all problems of all of them.
        """
        starts = [executor.start() for executor in self._executors.values()]
        results = await asyncio.gather(*starts, return_exceptions=True)
        if any(results):
            await self.close()  # the started ones
        problems: list[Problem] = []
        exit_code = 1
        for name, result in zip(self._executors, results, strict=True):
            if isinstance(result, StartupError):
                problems += [_renamed(problem, name) for problem in result.problems]
                exit_code = max(exit_code, result.exit_code)
            elif isinstance(result, BaseException):
                raise result
        if problems:
            raise StartupError(problems, exit_code=exit_code)

    def submit(self, task: ExecutorTask, priority: object, done: Done) -> Running:
        """Pass the task to the executor it names, which must exist."""
        return self._by_name[task.executor].submit(task, priority, done)

    async def close(self) -> None:
        """Close all of them concurrently."""
        await asyncio.gather(*(executor.close() for executor in self._executors.values()))

    def statistics(self) -> ExecutorStatistics:
        """The sums over all of them; callable from any thread."""
        return ExecutorStatistics(*map(sum, zip(*self.by_name().values(), strict=True)))

    def by_name(self) -> dict[str, ExecutorStatistics]:
        """Return the usage of each; the name of the default one is empty. Callable from any thread."""
        return {name: executor.statistics() for name, executor in self._executors.items()}


def _renamed(problem: Problem, name: str) -> Problem:
    """Return the problem of a named executor, with its section of the configuration."""
    if not name:
        return problem
    where, what, remedy = (
        text.replace("executor.", f"executors.{name}.") for text in (problem.where, problem.what, problem.remedy)
    )
    return Problem(f"executors.{name}" if where == "executor" else where, what, remedy)
