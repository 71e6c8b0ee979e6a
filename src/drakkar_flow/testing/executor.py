"""An executor that starts no process: a script says how each task ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from drakkar_flow.executor.base import ExecutorStatistics, Outcome
from drakkar_flow.executor.precomputed import precomputed
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask
from drakkar_flow.testing.gate import Gate

__all__ = ["ScriptedExecutor", "failed", "succeeded"]

Ending = str | int
"""Text: success with that output. A number: the exit code."""
Script = Callable[[ExecutorTask], Outcome | Ending] | Mapping[str, Ending | Sequence[Ending]]
"""A function of the task; or by task id one ending, or one for each attempt (the last stays)."""


def succeeded(task: ExecutorTask, stdout: str = "") -> ExecutorResult:
    """The result of a task whose program exited with 0."""
    return ExecutorResult(task=task, stdout=stdout)


def failed(task: ExecutorTask, exit_code: int = 1, stderr: str = "") -> ExecutorError:
    """The error of a task whose program exited with something else."""
    return ExecutorError(task=task, exit_code=exit_code, stderr=stderr)


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
        self.started: list[str] = []
        self.priorities: dict[str, object] = {}
        self.peak = 0

    def gate(self, task_id: str = "") -> Gate:
        """Where a task waits before it ends; without an id the gate of all tasks."""
        return self._gates.setdefault(task_id, Gate())

    async def start(self) -> None:
        """Nothing is left to do."""

    async def run(self, task: ExecutorTask, priority: object = 0) -> Outcome:
        """End the task as the script says."""
        if task.precomputed is not None:
            return precomputed(task)
        self.started.append(task.task_id)
        self.priorities[task.task_id] = priority
        self._running += 1
        self.peak = max(self.peak, self._running)
        try:
            await self.gate(task.task_id).passage()
            await self.gate().passage()
            return self._ending(task)
        finally:
            self._running -= 1

    async def close(self) -> None:
        """Nothing is left to do."""

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
