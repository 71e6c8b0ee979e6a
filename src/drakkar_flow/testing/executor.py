"""An executor that starts no process: a script says how each task ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from drakkar_flow.errors import ExecutorClosed
from drakkar_flow.executor.base import Done, ExecutorStatistics, Outcome, Running
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask
from drakkar_flow.testing.gate import Gate

__all__ = ["ScriptedExecutor", "failed", "succeeded"]

Ending = str | int
"""Text: success with that output. A number: the exit code."""
Script = Callable[[ExecutorTask], Outcome | Ending] | Mapping[str, Ending | Sequence[Ending]]
"""A function of the task; or by task id one ending, or one for each attempt (the last stays).

A function may raise ExecutorClosed for a task that is given up; what else it raises is an error of kind `internal`."""


def succeeded(task: ExecutorTask, stdout: str = "") -> ExecutorResult:
    """The result of a task whose program exited with 0."""
    return ExecutorResult(task=task, stdout=stdout)


def failed(task: ExecutorTask, exit_code: int = 1, stderr: str = "") -> ExecutorError:
    """The error of a task whose program exited with something else."""
    return ExecutorError(task=task, exit_code=exit_code, stderr=stderr)


class _Running:
    def __init__(self, run: asyncio.Task[Outcome | None]) -> None:
        self._run = run

    def cancel(self) -> None:
        self._run.cancel()


class ScriptedExecutor:
    """Ends tasks as `script` says; those it does not name succeed without output.

    `started` has the ids of the tasks in the order they started, each attempt once; `priorities` the
    priority of each task; `peak` is the most that ran at once. While a task's gate (`gate(task_id)`)
    or the one of all tasks (`gate()`) is shut, it runs on.
    """

    def __init__(self, script: Script | None = None, *, slots: int = 4) -> None:
        self.script: Script = script if script is not None else {}
        self._slots = slots
        self._attempts: Counter[str] = Counter()
        self._gates: dict[str, Gate] = {}
        self._running = 0
        self._runs: set[asyncio.Task[Outcome | None]] = set()
        self.started: list[str] = []
        self.priorities: dict[str, object] = {}
        self.peak = 0

    def gate(self, task_id: str = "") -> Gate:
        """Where a task waits before it ends; without an id the gate of all tasks."""
        return self._gates.setdefault(task_id, Gate())

    async def start(self) -> None:
        """Nothing is left to do."""

    def submit(self, task: ExecutorTask, priority: object, done: Done) -> Running:
        """End the task as the script says, in a later turn of the loop."""
        self.started.append(task.task_id)
        self.priorities[task.task_id] = priority
        self._running += 1
        self.peak = max(self.peak, self._running)
        run = asyncio.get_running_loop().create_task(self._run(task))
        self._runs.add(run)

        def ended(run: asyncio.Task[Outcome | None]) -> None:
            self._runs.discard(run)
            self._running -= 1
            done(None if run.cancelled() else run.result())

        run.add_done_callback(ended)
        return _Running(run)

    async def _run(self, task: ExecutorTask) -> Outcome | None:
        await self.gate(task.task_id).passage()
        await self.gate().passage()
        try:
            return self._ending(task)
        except ExecutorClosed:
            return None
        except Exception as exc:  # as an executor that fails by itself would say it
            return ExecutorError(task=task, kind="internal", exception=f"{type(exc).__name__}: {exc}")

    async def close(self) -> None:
        """Give up what waits at a gate."""
        for run in self._runs:
            run.cancel()

    def statistics(self) -> ExecutorStatistics:
        """How much runs now; nothing ever waits for a slot."""
        return ExecutorStatistics(self._running, 0, self._slots)

    def _ending(self, task: ExecutorTask) -> Outcome:
        script = self.script
        ending: Outcome | Ending | Sequence[Ending]
        if isinstance(script, Mapping):
            ending = script.get(task.task_id, "")
            if not isinstance(ending, str | int):
                attempt = self._attempts[task.task_id]
                self._attempts[task.task_id] += 1
                ending = ending[min(attempt, len(ending) - 1)]
        else:
            ending = script(task)
        if isinstance(ending, str):
            return succeeded(task, ending)
        if isinstance(ending, int):
            return failed(task, ending) if ending else succeeded(task)
        return ending
