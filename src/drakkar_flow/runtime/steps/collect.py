"""Collect step: results become payloads, and tasks are added up to records and windows."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

from drakkar_flow.kernel.causes import cause_key
from drakkar_flow.kernel.ordering import KeyedQueue
from drakkar_flow.model.outcome import AckStatus, Blame, Delivery, Failure, FailureKind
from drakkar_flow.model.payload import payloads_of
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorResult
from drakkar_flow.observe.events.context import EventContext
from drakkar_flow.observe.events.hooks import HookRan, HooksRan
from drakkar_flow.observe.events.tasks import WindowFinished
from drakkar_flow.runtime.failures import describe, failure_of, located, returned_error
from drakkar_flow.runtime.hook_calls import Done
from drakkar_flow.runtime.steps.context import StepContext
from drakkar_flow.runtime.steps.step import AsyncStep
from drakkar_flow.runtime.steps.trial import Arguments
from drakkar_flow.runtime.steps.windows import Arranged, FiredTimers, RecordProgress, TaskEnd, TaskRun, WindowRun

__all__ = ["CollectHooks", "CollectStep"]

_STATUS = {
    TaskEnd.SUCCEEDED: AckStatus.DONE,
    TaskEnd.SKIPPED: AckStatus.SKIPPED,
    TaskEnd.DEAD: AckStatus.DEAD,
    TaskEnd.FENCED: AckStatus.FENCED,
    TaskEnd.REPLACED: AckStatus.DONE,
}

_UNSTARTED = ("launch_failure", "unavailable")

Hook = Callable[..., Any] | None


@dataclass(frozen=True, slots=True)
class CollectHooks:
    """Hooks of the step; None where a handler does not define one."""

    step_id: str
    on_task: Hook
    on_message: Hook
    on_window: Hook
    on_timer: Hook = None

    @property
    def last(self) -> str:
        """The last hook that a record gets."""
        if self.on_window is not None:
            return "on_window_complete"
        return "on_message_complete" if self.on_message is not None else "on_task_complete"

    def function(self, hook: str) -> Hook:
        """Return the function of a hook."""
        return {
            "on_message_complete": self.on_message,
            "on_window_complete": self.on_window,
            "on_timer": self.on_timer,
        }.get(hook, self.on_task)


class CollectStep(AsyncStep[Arranged, Delivery]):
    """Emits a Delivery per payload; returns a record's remaining credit when its hooks have run."""

    def __init__(self, context: StepContext, hooks: CollectHooks) -> None:
        super().__init__(context, hooks.step_id)
        self._charge = context.charge()
        self._hooks = hooks
        self._last_hook = hooks.last
        self._calls_together = inspect.iscoroutinefunction(hooks.on_task) and self._state is None
        self._keyed_queue = KeyedQueue[TaskRun]()
        self._serving = False

    def accept(self, items: list[Arranged]) -> None:
        """Accept fired timers, windows and ended tasks."""
        started = time.monotonic()
        hook, together = self._hooks.on_task, self._calls_together
        called = 0
        series: list[TaskRun] = []
        for item in items:
            if type(item) is WindowRun:
                for progress in item.empty_groups():
                    self._group_finished(item, progress)
                continue
            if type(item) is FiredTimers:
                self._deliver_timers(item)
                continue
            run: TaskRun = item  # type: ignore[assignment] # all else is one
            succeeded = run.ending is TaskEnd.SUCCEEDED
            called += succeeded
            if run.keys and not self._keyed_queue.acquire(run.keys):
                self._keyed_queue.put(run, run.keys)
            elif succeeded and together:
                series.append(run)
            else:
                self._task_ended(run)
        if series and hook is not None:
            self.open += len(series)
            self._calls.call_each(hook, series, _result_of, self._task_answered)
        if called and hook is not None:
            self._bus.emit(HooksRan("on_task_complete", called, time.monotonic() - started))

    def _deliver_timers(self, fired: FiredTimers) -> None:
        for value, error, took_s in fired.answers:
            self._deliver("on_timer", value, error, (fired.progress,), took_s)
        self._return_rest(fired.progress)

    # --- a task ---------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Handle the end of every ordered task whose turn it is: one after the other of the same key."""
        if self._serving:
            return
        self._serving = True
        try:
            while (run := self._keyed_queue.next()) is not None:
                self._task_ended(run)
        finally:
            self._serving = False

    def _task_ended(self, run: TaskRun) -> None:
        hook = self._hooks.on_task
        if run.ending is TaskEnd.SUCCEEDED and hook is not None:
            self.open += 1
            done = partial(self._task_answered, run)
            if self._state is None:
                self._calls.call(hook, (run.result,), done, run)
            else:
                self._call_with_state("on_task_complete", hook, (run.result,), done, run, run.in_progress)
            return
        if run.error is not None and (run.ending is TaskEnd.DEAD or _counts(run)):
            self._give_up(run)
        self._settled(run, run.window.settle(run))

    def _task_answered(self, run: TaskRun, value: Any, error: BaseException | None) -> None:
        if error is not None:
            run.hook_failed(f"on_task_complete: {describe(error)}")
        finished = run.window.settle(run)
        if self._last_hook == "on_task_complete":
            for progress in finished:
                progress.closed = True
        # A mistake may concern the output of one program: that of others proves nothing.
        step = ("on_task_complete", run.program)
        self._deliver("on_task_complete", value, error, run.in_progress, task_id=run.task.task_id, step=step)
        self._settled(run, finished)
        self.open -= 1

    def _give_up(self, run: TaskRun) -> None:
        error = run.error
        assert error is not None
        dead = run.ending is TaskEnd.DEAD
        self.fail(
            Failure(
                kind=FailureKind.TASK,
                stage=self.step_id,
                error=f"task {run.task.task_id} failed ({error.kind}): {error.reason}",
                tokens=tuple(progress.hold() for progress in run.in_progress),
                task=error,
                task_id=run.task.task_id,
                to_dlq=dead,
                skipped=not dead,
                decided_by="" if dead else run.decided_by,
                blame=Blame.FLOW if error.kind in _UNSTARTED else Blame.RECORD,
                cause=f"{error.kind} {error.exit_code} {cause_key(error.exception or '')}",
                proof=run.program,
                mark=run.mark,
            )
        )

    def _settled(self, run: TaskRun, finished: list[RecordProgress]) -> None:
        """Close the records whose last task has ended, and the window if that was its last task."""
        window = run.window
        for progress in finished:
            if progress.credit_pool.left:  # else its last payload took all
                self._group_finished(window, progress)
        if not window.open:
            self._window_finished(window)
        if run.keys and self._keyed_queue.release(run.keys):
            self._serve()

    # --- a record -------------------------------------------------------------------------------

    def _group_finished(self, window: WindowRun, progress: RecordProgress) -> None:
        hook = self._hooks.on_message
        if hook is None or progress.message is None or progress.worst is TaskEnd.FENCED:
            self._close(window, progress)
            return
        self.open += 1
        progress.message.finished_at = time.monotonic()
        done = partial(self._message_answered, window, progress)
        if self._state is None:
            self._calls.call(hook, (progress.message,), done, progress)
        else:
            self._call_with_state("on_message_complete", hook, (progress.message,), done, progress, (progress,))

    def _message_answered(
        self, window: WindowRun, progress: RecordProgress, value: Any, error: BaseException | None
    ) -> None:
        assert progress.message is not None
        took_s = time.monotonic() - progress.message.finished_at
        progress.closed = self._last_hook == "on_message_complete"
        self._deliver("on_message_complete", value, error, (progress,), took_s)
        self._close(window, progress)
        self.open -= 1

    def _close(self, window: WindowRun, progress: RecordProgress) -> None:
        """Close a record; with a window hook its remaining credit waits for the window."""
        progress.closed = True
        if self._hooks.on_window is None or window.tasks == 0 or (window.finished and window.hooked):
            self._return_rest(progress)

    def _return_rest(self, progress: RecordProgress) -> None:
        if progress.credit_pool.left:  # else it went with the last payload
            self.ack(((progress.record, progress.credit_pool.drain()),), _STATUS[progress.worst])

    # --- a window -------------------------------------------------------------------------------

    def _window_finished(self, window: WindowRun) -> None:
        now = time.monotonic()
        self._bus.emit(
            WindowFinished(window.topic_partition, len(window.in_progress), window.tasks, now - window.started_at)
        )
        if (hook := self._hooks.on_window) is not None:
            self.open += 1
            answered = partial(self._window_answered, hook, window, now)
            arguments = (window.results, window.records)
            if self._state is None:
                self._calls.call(hook, arguments, answered, window)
            else:
                self._call_with_state("on_window_complete", hook, arguments, answered, window, window.in_progress)

    def _window_answered(
        self, hook: Callable[..., Any], window: WindowRun, started: float, value: Any, error: BaseException | None
    ) -> None:
        took_s = time.monotonic() - started
        error = _window_error(value, error)
        if error is None:
            self._window_over(window, value, None, took_s, 1)
            return
        arguments: Arguments = partial(_of_one_record, window)
        if self._state is not None:
            hook, arguments = self._state.on_trial(hook, arguments)
        self._context.trial.run(
            self._calls,
            "on_window_complete",
            hook,
            window.records,
            error,
            arguments,
            _window_error,
            partial(self._window_over, window, None, error, took_s),
        )

    def _window_over(
        self, window: WindowRun, value: Any, error: BaseException | None, took_s: float, calls: int
    ) -> None:
        self._deliver("on_window_complete", value, error, window.in_progress, took_s, calls=calls)
        window.hooked = True
        for progress in window.in_progress:
            if progress.closed:
                self._return_rest(progress)
        self.open -= 1

    def _call_with_state(
        self,
        name: str,
        hook: Callable[..., Any],
        arguments: tuple[Any, ...],
        done: Done,
        about: object,
        in_progress: Collection[RecordProgress],
    ) -> None:
        """Call a hook of a handler that keeps state, with the state of these records."""
        assert self._state is not None
        records = [progress.record for progress in in_progress]
        self._state.call(self._calls, hook, arguments, done, about, records, partial(returned_error, name))

    # --- payloads -------------------------------------------------------------------------------

    def _deliver(
        self,
        hook: str,
        value: Any,
        error: BaseException | None,
        in_progress: Collection[RecordProgress],
        took_s: float | None = None,
        task_id: str = "",
        calls: int = 1,
        step: Hashable = None,
    ) -> None:
        """Send the payloads that a hook returned; a hook that failed is a failure of the records it was called for.

        `step` is the step that the answer proves or a failure puts in doubt, the hook by default.
        """
        step = step or hook
        payloads: list[Any] = []
        if error is None and value is not None:
            try:
                payloads = payloads_of(value)
            except TypeError:
                error = returned_error(hook, value, None)
        if error is not None:
            error = located(hook, self._hooks.function(hook), error)
            about = EventContext.of((progress.record for progress in in_progress), (task_id,))
            self._bus.emit(HookRan(hook, took_s, describe(error), error, about))
            tokens = [progress.hold() for progress in in_progress]
            failure = failure_of(FailureKind.HOOK, f"{self.step_id}.{hook}", error, tokens, task_id)
            failure.proof, failure.calls, failure.refuted = step, calls, calls == 0
            self.fail(failure)
        else:
            if step not in self._proof.works:
                self._proof.add(step)
            if took_s is not None:
                self._bus.emit(HookRan(hook, took_s))
        if payloads:
            self._send(payloads, in_progress, task_id)

    def _send(self, payloads: list[Any], in_progress: Collection[RecordProgress], task_id: str) -> None:
        """Emit payloads; the last one takes the credit that no later hook needs."""
        charge = self._charge
        last = payloads.pop()
        if not payloads and len(in_progress) == 1:  # most, and so cheaper
            (progress,) = in_progress
            charge(progress.record, last)
            self.emit(Delivery(last, (progress.last_token(),), task_id))
            return
        record = next(iter(in_progress)).record
        for payload in payloads:
            charge(record, payload)
            self.emit(Delivery(payload, tuple([progress.hold() for progress in in_progress]), task_id))
        charge(record, last)
        self.emit(Delivery(last, tuple([progress.last_token() for progress in in_progress]), task_id))


_result_of = attrgetter("result")
_window_error = partial(returned_error, "on_window_complete")


def _of_one_record(window: WindowRun, record: Record) -> tuple[list[ExecutorResult], list[Record]]:
    """Return the arguments of `on_window_complete` for a window of one record."""
    results = [result for result in window.results if record.offset in result.task.source_offsets]
    return results, [record]


def _counts(run: TaskRun) -> bool:
    """Return True if a skipped task counts as failed.

    `on_error` may call an exit harmless, but not a program that did not run.
    """
    if run.ending is not TaskEnd.SKIPPED or run.error is None:
        return False
    return bool(run.decided_by) or run.error.kind in _UNSTARTED
