"""The execute step: each task is run to its end, whatever retries and replacements that takes."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from drakkar_flow.executor.base import Executor, Outcome
from drakkar_flow.executor.precomputed import precomputed
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.model.task import ErrorAction, ExecutorError, ExecutorResult, ExecutorTask
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events import HookRan, TaskRetried, TasksPrecomputed
from drakkar_flow.runtime.bridge import Bridge
from drakkar_flow.runtime.calls import Calls
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
        self._calls = Calls(bridge)

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
        self._submit(run)

    def _submit(self, run: TaskRun) -> None:
        task = run.task
        if self._flight.has_fences and self._flight.is_fenced(run.lead):
            self._finish(run.end(Ending.FENCED))
            return
        if task.precomputed is not None:
            self._ended(run, precomputed(task))
            return
        priority = min(task.source_offsets, default=0)
        try:
            self._executor.submit(task, priority, partial(self._bridge.guard, self._ended, run))
        except Exception as exc:  # an executor that breaks its word must not freeze the offset
            self._ended(run, ExecutorError(task=task, kind="internal", exception=f"{type(exc).__name__}: {exc}"))

    def _ended(self, run: TaskRun, outcome: Outcome | None) -> None:
        if outcome is None:  # the executor closes: the offset must stay
            self._finish(run.end(Ending.FENCED))
        elif isinstance(outcome, ExecutorResult):
            self._finish(run.end(Ending.SUCCEEDED, result=outcome))
        elif _was_interrupted(outcome) and run.interruptions < _INTERRUPTIONS:
            run.interruptions += 1
            self._submit(run)
        else:
            self._ask(run, outcome)

    def _ask(self, run: TaskRun, error: ExecutorError) -> None:
        hook = self._settings.on_error
        if hook is None:
            self._follow(run, error, self._settings.default)
            return
        started = time.monotonic()

        def answered(answer: Any, raised: BaseException | None) -> None:
            action, problem = _judge(run, answer, raised)
            self._bus.emit(HookRan("on_error", time.monotonic() - started, problem))
            self._follow(run, error, action)

        self._calls.call(hook, (run.task, error), answered)

    def _follow(self, run: TaskRun, error: ExecutorError, action: ErrorAction | list[ExecutorTask]) -> None:
        if isinstance(action, list):
            self._replace(run, error, action)
        elif action is not ErrorAction.RETRY or run.retries >= self._settings.max_retries:
            self._finish(run.end(Ending.DEAD if action is ErrorAction.DLQ else Ending.SKIPPED, error=error))
        else:
            run.retries += 1
            self._bus.emit(TaskRetried(run.task.task_id, run.retries))
            delay_s = self._settings.backoff.delay_s(run.retries, random.random)
            asyncio.get_running_loop().call_later(delay_s, self._bridge.guard, self._submit, run)

    def _replace(self, run: TaskRun, error: ExecutorError, tasks: list[ExecutorTask]) -> None:
        replacements = run.window.replace(run, tasks)
        self._tasks.add(run.window.lane, tasks)
        if given := sum(task.precomputed is not None for task in tasks):
            self._bus.emit(TasksPrecomputed(given))
        for replacement in replacements:
            self._start(replacement)
        self._finish(run.end(Ending.REPLACED, error=error))

    def _finish(self, run: TaskRun) -> None:
        self._tasks.discard(run.window.lane, run.task)
        self.emit(run)
        self.open -= 1


def _judge(run: TaskRun, answer: Any, raised: BaseException | None) -> tuple[ErrorAction | list[ExecutorTask], str]:
    """What `on_error` decided, and what is wrong with it: what it can't answer is a SKIP."""
    if isinstance(raised, asyncio.CancelledError):
        raise raised
    if raised is not None:
        return ErrorAction.SKIP, f"on_error: {raised}"
    if isinstance(answer, list):
        if not are_tasks(answer):
            return ErrorAction.SKIP, "on_error returned a list with something else than tasks"
        if run.generation >= _MAX_GENERATIONS:
            times = f"{run.generation} times in a row"
            return ErrorAction.SKIP, f"on_error replaced a task and its replacements {times}"
        return answer, ""
    try:
        return ErrorAction(answer), ""
    except ValueError as exc:
        return ErrorAction.SKIP, f"on_error: {exc}"


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
