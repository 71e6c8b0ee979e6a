"""Execute step: runs each task to its end, with retries and replacements."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any, NamedTuple

from drakkar_flow.executor.base import Executor, TaskOutcome
from drakkar_flow.executor.precomputed import precomputed
from drakkar_flow.kernel.retry import RetryPolicy
from drakkar_flow.kernel.sizes import LARGE
from drakkar_flow.model.precomputed import PrecomputedResult
from drakkar_flow.model.task import ErrorAction, ExecutorError, ExecutorResult, ExecutorTask
from drakkar_flow.observe.events.context import NO_CONTEXT
from drakkar_flow.observe.events.hooks import HookRan
from drakkar_flow.observe.events.tasks import (
    DuplicateTasks,
    RetriesExhausted,
    TaskFailed,
    TaskRetried,
    TasksPrecomputed,
)
from drakkar_flow.runtime.failures import describe, located
from drakkar_flow.runtime.steps.attempts import AttemptLog
from drakkar_flow.runtime.steps.context import StepContext
from drakkar_flow.runtime.steps.priority import priority_of
from drakkar_flow.runtime.steps.result_cache import ResultCache
from drakkar_flow.runtime.steps.retry_queue import RetryQueue
from drakkar_flow.runtime.steps.step import AsyncStep
from drakkar_flow.runtime.steps.task_order import KeysOf, TaskOrder
from drakkar_flow.runtime.steps.windows import Arranged, TaskEnd, TaskRun, are_tasks

__all__ = ["ExecuteSettings", "ExecuteStep", "TaskRules"]

_MAX_GENERATIONS = 50  # a task that only fails and is only replaced would run without limit and keep every ancestor
_TEXT = frozenset({str, bytes})
_INTERRUPTIONS = 3  # more than this, and the program does it to itself


class TaskRules(NamedTuple):
    """Rules for an executor's tasks: retries of a failed one, and exit codes that are a success."""

    retry: RetryPolicy
    ok_exit_codes: Collection[int] = (0,)


@dataclass(frozen=True, slots=True)
class ExecuteSettings:
    """Rules for failed tasks: `retry` comes first, then `on_error` decides, or `default` where there is none.

    `keys(record)` returns its ordering keys; None disables ordering. `named` has the rules of named executors. The
    outputs of tasks that took `long_s` seconds or more are offered to listeners.
    `results` has the results of equal tasks.
    """

    retry: RetryPolicy
    on_error: Callable[..., Any] | None
    default: ErrorAction
    keys: KeysOf | None = None
    priority: Callable[[ExecutorTask], object] | None = None
    ok_exit_codes: Collection[int] = (0,)
    named: Mapping[str, TaskRules] = field(default_factory=dict)
    long_s: float = inf
    results: ResultCache | None = None

    def rules_of(self, task: ExecutorTask) -> TaskRules | ExecuteSettings:
        """Return the rules of a task's executor."""
        return self.named.get(task.executor, self) if isinstance(task.executor, str) else self

    def check_executor(self, task: ExecutorTask) -> None:
        """Check that the executor of a task exists.

        Raises:
            TypeError: it does not exist.
        """
        if task.executor not in ("", "default", *self.named):
            known = ", ".join(["default", *self.named])
            what = f"executor is {task.executor!r}, which is not configured"
            raise TypeError(f"task {task.task_id}: {what}: write one of {known}")


class ExecuteStep(AsyncStep[Arranged, Arranged]):
    """Runs TaskRuns and emits each when it has ended permanently; all else passes through."""

    def __init__(
        self, context: StepContext, step_id: str, parking: RetryQueue, executor: Executor, settings: ExecuteSettings
    ) -> None:
        super().__init__(context, step_id)
        self._gate = context.gate
        self._tasks = context.pending
        self._parking = parking
        self._executor = executor
        self._settings = settings
        self._order = TaskOrder(self._submit) if settings.keys is not None else None
        self._attempts = AttemptLog(context.bus, settings.long_s)
        self._runs: dict[TaskRun, None] = {}  # that have not ended, oldest first

    @property
    def calls(self) -> list[tuple[asyncio.Task[Any] | None, object]]:
        """Return the tasks that have not ended, oldest first, those whose hook runs before the others."""
        asked = self._calls.open
        known = {id(run) for _, run in asked}
        return [*asked, *((None, run) for run in self._runs if id(run) not in known)]

    @property
    def moving(self) -> bool:
        """True if the executor has a task, or a hook runs."""
        return super().moving or any(run.running is not None for run in self._runs)

    def accept(self, items: list[Arranged]) -> None:
        """Start new tasks; precomputed successes are answered at once."""
        order = self._order
        if order is not None:
            items = self._in_order(items)
        answered: list[Arranged] = []
        count = 0
        for item in items:
            if type(item) is not TaskRun:
                answered.append(item)
                continue
            run: TaskRun = item
            self._begin(run)
            if run.task.precomputed is not None:
                count += 1
                if (order is None or order.is_free(run)) and self._end_if_given(run):
                    answered.append(run)
                    continue
            self.open += 1
            self._runs[run] = None
            if order is None:
                self._submit(run)
            else:
                order.put(run)
        self.emit_all(answered)
        if count:
            self._bus.emit(TasksPrecomputed(count))
        if order is not None:
            order.serve()

    def _begin(self, run: TaskRun) -> None:
        stdin: Any = run.task.stdin
        if type(stdin) in _TEXT and len(stdin) >= LARGE:
            self._in_flight.charge(run.first_record, len(stdin))
        if self._settings.results is not None and run.task.precomputed is None:
            self._ask_memory(run, self._settings.results)

    # --- order ----------------------------------------------------------------------------------

    def _in_order(self, items: list[Arranged]) -> list[Arranged]:
        """Set the tasks' keys, and sort them by offset if `arrange` listed those of a window otherwise."""
        found: list[Arranged] = []
        sorted_already, before = True, -1
        for item in items:
            if not isinstance(item, TaskRun):
                before = -1
            elif self._find_keys(item):
                offset = _offset_of(item)
                sorted_already &= before <= offset
                before = offset
            else:
                continue
            found.append(item)
        if not sorted_already:
            found.sort(key=lambda item: _offset_of(item) if isinstance(item, TaskRun) else -1)
        return found

    def _find_keys(self, run: TaskRun) -> bool:
        """Set a run's keys; without keys its turn is unknown, so it is a dead letter."""
        keys_of = self._settings.keys
        assert keys_of is not None
        in_progress = run.in_progress
        try:
            if len(in_progress) == 1:
                run.keys = keys_of(in_progress[0].record)
            else:
                run.keys = tuple(dict.fromkeys(key for progress in in_progress for key in keys_of(progress.record)))
        except BaseException as exc:  # the user's function
            exception = f"the key function raised {type(exc).__name__}: {exc}"
            error = ExecutorError(task=run.task, kind="internal", exception=exception)
            self._bus.emit(TaskFailed(error, run.about, run.first_record.key))
            self._tasks.discard(run.window.topic_partition, run.task)
            self.emit(run.end(TaskEnd.DEAD, error=error))
            return False
        return True

    # --- one attempt ----------------------------------------------------------------------------

    def _end_if_given(self, run: TaskRun) -> bool:
        """End a precomputed task that succeeds; returns True if it did."""
        settings = self._settings
        rules = settings.rules_of(run.task) if settings.named else settings
        outcome = precomputed(run.task, rules.ok_exit_codes)
        if type(outcome) is not ExecutorResult:
            return False
        run.end(TaskEnd.SUCCEEDED, result=outcome)
        return True

    def _submit(self, run: TaskRun) -> None:
        if self._gate.closed and run.task.precomputed is None:
            self._gate.delay(partial(self._submit_now, run))
        else:
            self._submit_now(run)

    def _submit_now(self, run: TaskRun) -> None:
        task = run.task
        if self._in_flight.has_fences and self._context.is_fenced(run.first_record):
            self._finish(run.end(TaskEnd.FENCED))
            return
        if task.precomputed is not None:
            self._ended(run, precomputed(task, self._settings.rules_of(task).ok_exit_codes))
            return
        if run.cache_key and not run.looked_up:
            self._ask_file(run)
            return
        priority = priority_of(run, self._settings.priority, self._bus)
        try:
            task.check()  # hooks may have changed it since it was made
            if task.executor:
                self._settings.check_executor(task)
            run.program = (task.executor, task.binary_path or "")
        except TypeError as exc:
            run.program = (str(task.executor), str(task.binary_path))
            self._ended(run, ExecutorError(task=task, kind="launch_failure", exception=str(exc)))
            return
        try:
            run.running = self._executor.submit(
                task, priority, partial(self._context.loop_thread.guard, self._ended, run)
            )
        except Exception as exc:  # an executor that breaks its protocol must not freeze the offset
            self._ended(run, ExecutorError(task=task, kind="internal", exception=f"{type(exc).__name__}: {exc}"))

    def _ended(self, run: TaskRun, outcome: TaskOutcome | None) -> None:
        if run.task.precomputed is None:
            self._attempts.note(run, outcome)
        if outcome is None:  # the executor closes: the offset must stay
            self._finish(run.end(TaskEnd.FENCED))
            return
        run.output_size = size = _size_of(outcome)
        if size >= LARGE:
            self._in_flight.charge(run.first_record, size)
        if isinstance(outcome, ExecutorResult):
            if (program := run.program) not in self._proof.works:
                self._proof.add(program)
            if run.cache_key and run.task.precomputed is None and self._settings.results is not None:
                self._settings.results.store(run.cache_key, outcome)
            self._finish(run.end(TaskEnd.SUCCEEDED, result=outcome))
        elif _was_interrupted(outcome) and run.interruptions < _INTERRUPTIONS:
            run.interruptions += 1
            self._drop_attempt(run)
            self._submit(run)
        else:
            self._failed(run, outcome)

    def _drop_attempt(self, run: TaskRun) -> None:
        """Forget an attempt that another follows: nothing runs, and its output is not kept."""
        run.running = None
        if run.output_size >= LARGE:
            self._in_flight.charge(run.first_record, -run.output_size)

    # --- results of equal tasks -------------------------------------------------------------------

    def _ask_memory(self, run: TaskRun, results: ResultCache) -> None:
        """Find the key of a task's result, and the result if it is in memory."""
        try:
            run.cache_key = results.key_of(run.task)
        except Exception as exc:  # the user's function: the task runs as without a cache
            self._bus.emit(HookRan("cached_execute", None, f"key raised {describe(exc)}", exc, run.about))
        if run.cache_key:
            run.task.precomputed = results.hit(run.cache_key)

    def _ask_file(self, run: TaskRun) -> None:
        assert self._settings.results is not None
        run.looked_up = True
        self._calls.call(self._settings.results.get, (run.cache_key,), partial(self._looked_up, run), run)

    def _looked_up(self, run: TaskRun, result: PrecomputedResult | None, _error: BaseException | None) -> None:
        if result is not None:
            run.task.precomputed = result
            self._bus.emit(TasksPrecomputed(1))
        self._submit_now(run)

    # --- a failed attempt -----------------------------------------------------------------------

    def _failed(self, run: TaskRun, error: ExecutorError) -> None:
        error.attempt = run.retries + 1
        run.mark = self._proof.doubt(run.program)
        self._bus.emit(TaskFailed(error, run.about, run.first_record.key))
        run.failed_at = run.failed_at or time.monotonic()
        given = run.task.precomputed is not None  # its outcome would be the same again
        transient = not given and self._settings.rules_of(run.task).retry.is_transient(error)
        pause_s = self._pause_s(run) if transient else None
        if pause_s is None:
            self._ask(run, error)
        else:
            self._delay_retry(run, pause_s)

    def _pause_s(self, run: TaskRun) -> float | None:
        """Return the pause of a run before its next attempt; None if it has had all attempts."""
        retry = self._settings.rules_of(run.task).retry
        return retry.pause_s(run.retries, time.monotonic() - run.failed_at, random.random)

    def _delay_retry(self, run: TaskRun, pause_s: float) -> None:
        run.retries += 1
        self._drop_attempt(run)
        self._bus.emit(TaskRetried(run.task.task_id, run.retries, pause_s, run.about))
        self._parking.delay(pause_s, len(run.in_progress), partial(self._submit, run))

    def _ask(self, run: TaskRun, error: ExecutorError) -> None:
        """Ask `on_error` about a failed task; the configured default applies where there is no hook."""
        hook = self._settings.on_error
        if hook is None:
            run.decided_by = f"runtime.on_task_error: {self._settings.default}"
            self._apply(run, error, self._settings.default)
        else:
            self._calls.call(hook, (run.task, error), partial(self._decided, run, error, time.monotonic()), run)

    def _decided(
        self, run: TaskRun, error: ExecutorError, started: float, answer: Any, raised: BaseException | None
    ) -> None:
        if raised is not None:
            raised = located("on_error", self._settings.on_error, raised)
        action, problem = _action_of(run, answer, raised)
        about = run.about if problem else NO_CONTEXT
        run.decided_by = "on_error failed" if problem else ""
        self._bus.emit(HookRan("on_error", time.monotonic() - started, problem, raised, about))
        self._apply(run, error, action)

    def _apply(self, run: TaskRun, error: ExecutorError, action: ErrorAction | list[ExecutorTask]) -> None:
        if isinstance(action, list):
            self._replace(run, error, action)
            return
        pause_s = self._pause_s(run) if action is ErrorAction.RETRY else None
        if pause_s is None:
            self._give_up(run, error, action)
        else:
            self._delay_retry(run, pause_s)

    def _give_up(self, run: TaskRun, error: ExecutorError, action: ErrorAction) -> None:
        dead = action is ErrorAction.DLQ
        exhausted = action is ErrorAction.RETRY
        if exhausted:
            run.decided_by = "executor.max_retries"
        if exhausted or (run.retries and self._settings.rules_of(run.task).retry.is_transient(error)):
            self._bus.emit(RetriesExhausted(run.task.task_id, run.retries + 1, dead, error, run.about))
        self._finish(run.end(TaskEnd.DEAD if dead else TaskEnd.SKIPPED, error=error))

    def _replace(self, run: TaskRun, error: ExecutorError, tasks: list[ExecutorTask]) -> None:
        replacements = run.window.replace(run, tasks)
        self.open += len(replacements)
        self._runs.update(dict.fromkeys(replacements))
        if given := sum(task.precomputed is not None for task in tasks):
            self._bus.emit(TasksPrecomputed(given))
        self._finish(run.end(TaskEnd.REPLACED, error=error), replacements)

    def _finish(self, run: TaskRun, replacements: Sequence[TaskRun] = ()) -> None:
        """Emit the end of a run; `replacements` take its place."""
        topic_partition = run.window.topic_partition
        self._runs.pop(run, None)
        self._tasks.discard(topic_partition, run.task)
        if replacements:
            duplicates = self._tasks.add(topic_partition, [replacement.task for replacement in replacements])
            if duplicates:
                self._bus.emit(DuplicateTasks(topic_partition, len(duplicates), duplicates[0], run.about))
        self.emit(run)
        self.open -= 1
        if self._order is not None:
            self._order.release(run, replacements)
        else:
            for replacement in replacements:
                self._submit(replacement)


def _size_of(outcome: TaskOutcome) -> int:
    """Return the length of a task's output; a precomputed result may hold anything."""
    stdout: object = outcome.stdout
    stderr: object = outcome.stderr
    size = len(stdout) if isinstance(stdout, str) else 0
    size += len(stderr) if isinstance(stderr, str) else 0
    if (raw := outcome.raw_stdout) is not None:
        size += len(raw)
    if (raw := outcome.raw_stderr) is not None:
        size += len(raw)
    return size


def _offset_of(run: TaskRun) -> int:
    """Return the lowest offset that it works for."""
    in_progress = run.in_progress
    return (
        in_progress[0].record.offset
        if len(in_progress) == 1
        else min([progress.record.offset for progress in in_progress])
    )


def _action_of(run: TaskRun, answer: Any, raised: BaseException | None) -> tuple[ErrorAction | list[ExecutorTask], str]:
    """Return the decision of `on_error` and its error; an invalid answer is a SKIP."""
    if raised is not None:
        text = describe(raised)
        return ErrorAction.SKIP, text if text.startswith("on_error") else f"on_error: {text}"
    if isinstance(answer, list):
        if not are_tasks(answer):
            return ErrorAction.SKIP, "on_error returned a list with values that are not tasks"
        if run.generation >= _MAX_GENERATIONS:
            times = f"{run.generation} times in a row"
            return ErrorAction.SKIP, f"on_error replaced a task and its replacements {times}"
        return answer, ""
    try:
        return ErrorAction(answer), ""
    except ValueError as exc:
        return ErrorAction.SKIP, f"on_error: {exc}"


def _was_interrupted(outcome: TaskOutcome) -> bool:
    """Return True if Ctrl-C at a terminal killed a program that had not begun.

    Between vfork and exec a child still belongs to our process group, so the terminal's SIGINT meets it too: it ends by
    that signal without output. It is run again.
    """
    return (
        isinstance(outcome, ExecutorError)
        and outcome.signal == signal.SIGINT
        and not (outcome.stdout or outcome.stderr)
    )
