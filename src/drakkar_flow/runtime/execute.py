"""The execute step: each task is run to its end, whatever retries and replacements that takes."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drakkar_flow.errors import ExecutorClosed
from drakkar_flow.executor.base import Executor, Outcome
from drakkar_flow.executor.precomputed import precomputed
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.model.task import ErrorAction, ExecutorError, ExecutorResult, ExecutorTask
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events import HookRan, TaskRetried, TasksPrecomputed
from drakkar_flow.runtime.bridge import Bridge
from drakkar_flow.runtime.flight import Flight
from drakkar_flow.runtime.pending import PendingTasks
from drakkar_flow.runtime.step import Worker
from drakkar_flow.runtime.windows import Ending, TaskRun, WindowRun, are_tasks

__all__ = ["ExecuteSettings", "ExecuteWorker"]

_MAX_GENERATIONS = 50  # a task that only fails and is only replaced would else go on for ever and keep every ancestor
_INTERRUPTIONS = 3  # more than this, and the program does it to itself


@dataclass(frozen=True, slots=True)
class ExecuteSettings:
    """How failed tasks are treated: `on_error` decides, or `default` where there is none."""

    stage: str
    max_retries: int
    on_error: Callable[..., Any] | None
    default: ErrorAction
    backoff: Backoff


class ExecuteWorker(Worker):
    """Runs TaskRuns and emits each when it has ended for good; windows pass through."""

    def __init__(
        self,
        bridge: Bridge,
        bus: Bus,
        flight: Flight,
        pending: PendingTasks,
        executor: Executor,
        settings: ExecuteSettings,
    ) -> None:
        super().__init__(bridge)
        self._bus = bus
        self._flight = flight
        self._tasks = pending
        self._executor = executor
        self._settings = settings

    def accept(self, items: list[Any]) -> None:
        """Start what came in; precomputed successes are answered at once."""
        answered = self._pending().items
        count = 0
        for item in items:
            if type(item) is WindowRun:
                answered.append(item)
                continue
            run: TaskRun = item
            if run.task.precomputed is not None:
                count += 1
                outcome = precomputed(run.task)
                if type(outcome) is ExecutorResult:
                    answered.append(run.end(Ending.SUCCEEDED, result=outcome))
                    continue
            self._start(run)
        if count:
            self._bus.emit(TasksPrecomputed(count))

    def _start(self, run: TaskRun) -> None:
        self.open += 1

        def ended() -> None:
            self._tasks.discard(run.window.lane, run.task)
            self.emit(run)
            self.open -= 1

        self._calls.run(self._to_its_end(run), ended, run)

    async def _to_its_end(self, run: TaskRun) -> None:
        retries = interrupted = 0
        while True:
            if self._flight.has_fences and self._flight.is_fenced(run.lead):
                run.end(Ending.FENCED)
                return
            try:
                outcome = await self._run(run.task)
            except ExecutorClosed:  # its offset must stay
                run.end(Ending.FENCED)
                return
            if _was_interrupted(outcome) and interrupted < _INTERRUPTIONS:
                interrupted += 1
                continue
            if isinstance(outcome, ExecutorResult):
                run.end(Ending.SUCCEEDED, result=outcome)
                return
            action = await self._decide(run, outcome)
            if isinstance(action, list):
                replacements = run.window.replace(run, action)
                run.end(Ending.REPLACED, error=outcome)
                self._tasks.add(run.window.lane, action)
                if given := sum(replacement.precomputed is not None for replacement in action):
                    self._bus.emit(TasksPrecomputed(given))
                for replacement in replacements:
                    self._start(replacement)
                return
            if action != ErrorAction.RETRY or retries >= self._settings.max_retries:
                run.end(Ending.DEAD if action == ErrorAction.DLQ else Ending.SKIPPED, error=outcome)
                return
            retries += 1
            self._bus.emit(TaskRetried(run.task.task_id, retries))
            await asyncio.sleep(self._settings.backoff.delay_s(retries, random.random))

    async def _run(self, task: ExecutorTask) -> Outcome:
        try:
            return await self._executor.run(task, priority=min(task.source_offsets, default=0))
        except ExecutorClosed:
            raise
        except Exception as exc:  # an executor that breaks its word must not freeze the offset
            return ExecutorError(task=task, kind="internal", exception=f"{type(exc).__name__}: {exc}")

    async def _decide(self, run: TaskRun, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
        """Ask `on_error`; what it can't answer is a SKIP that is counted."""
        settings = self._settings
        if settings.on_error is None:
            return settings.default
        started = asyncio.get_running_loop().time()
        problem = ""
        action: Any = ErrorAction.SKIP
        try:
            action = settings.on_error(run.task, error)
            if not isinstance(action, list | str):
                action = await action
            if isinstance(action, list):
                if not are_tasks(action):
                    problem, action = "on_error returned a list with something else than tasks", ErrorAction.SKIP
                elif run.generation >= _MAX_GENERATIONS:
                    problem = f"on_error replaced a task and its replacements {run.generation} times in a row"
                    action = ErrorAction.SKIP
            else:
                action = ErrorAction(action)
        except Exception as exc:  # a hook that raises must not freeze the offset
            problem, action = f"on_error: {exc}", ErrorAction.SKIP
        self._bus.emit(HookRan("on_error", asyncio.get_running_loop().time() - started, problem))
        return action  # type: ignore[no-any-return]


def _was_interrupted(outcome: Outcome) -> bool:
    """Whether Ctrl-C at a terminal killed a program that had not begun.

    Between vfork and exec a child still belongs to our process group, so the terminal's SIGINT
    meets it too: it ends by that signal and has said nothing. It is run again.
    """
    return (
        isinstance(outcome, ExecutorError)
        and outcome.signal == signal.SIGINT
        and not (outcome.stdout or outcome.stderr)
    )
