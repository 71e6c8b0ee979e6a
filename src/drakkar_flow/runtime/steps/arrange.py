"""Arrange step: windows of records of one partition become tasks, one window at a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from drakkar_flow.model.outcome import AckStatus, FailureKind
from drakkar_flow.model.record import Record, TopicPartition
from drakkar_flow.model.task import ExecutorTask
from drakkar_flow.observe.events.context import EventContext
from drakkar_flow.observe.events.hooks import HookRan
from drakkar_flow.observe.events.tasks import DuplicateTasks
from drakkar_flow.runtime.acknowledgement.credit import CreditPool
from drakkar_flow.runtime.failures import describe, failure_of, located, returned_error
from drakkar_flow.runtime.steps.context import StepContext
from drakkar_flow.runtime.steps.step import AsyncStep
from drakkar_flow.runtime.steps.transform import shares_of
from drakkar_flow.runtime.steps.trial import Arguments
from drakkar_flow.runtime.steps.windows import Arranged, FiredTimers, RecordProgress, WindowRun, are_tasks

__all__ = ["ArrangeStep"]

_CHECK_S = 0.1  # the longest time until a lingering window notices a drain
_FIRED_AT_ONCE = 500  # timers in a row, then other work of the loop gets its turn

_Answer = tuple[Any, BaseException | None, float]


@dataclass(slots=True)
class _Queue:
    """Records of one partition that wait for their window."""

    topic_partition: TopicPartition
    records: deque[Record] = field(default_factory=deque)
    busy: bool = False
    """True if a window is open, or waits for the memory gate."""
    serving: bool = False
    timer: asyncio.TimerHandle | None = None
    due_at: float = 0.0
    """Time at which the lingering window must start, by the loop's clock."""


class _Window(NamedTuple):
    """A window for which `arrange` was called."""

    queue: _Queue
    records: list[Record]
    started: float


class ArrangeStep(AsyncStep[Record, Arranged]):
    """Makes windows and calls `arrange` for them: serial in a partition, parallel between partitions.

    Emits the timers of the handler's state that fired with a window as `FiredTimers`, a `WindowRun` for each window,
    and a `TaskRun` for each of its tasks. `keep_messages` is True if a later hook needs the `MessageGroup` of each
    record.
    """

    def __init__(
        self,
        context: StepContext,
        step_id: str,
        arrange: Callable[..., Any],
        size: int,
        linger_s: float,
        *,
        keep_messages: bool,
    ) -> None:
        super().__init__(context, step_id)
        self._gate = context.gate
        self._tasks = context.pending
        self._arrange = arrange
        self._size = size
        self._linger_s = linger_s
        self._keep_messages = keep_messages
        self._queues: dict[TopicPartition, _Queue] = {}

    def accept(self, items: list[Record]) -> None:
        """Queue records by partition and start the windows that can start."""
        self.open += len(items)
        touched: dict[TopicPartition, _Queue] = {}
        topic_partition: TopicPartition = ("", -1)
        queue: _Queue | None = None
        for record in items:
            if queue is None or record.partition != topic_partition[1] or record.topic != topic_partition[0]:
                topic_partition = record.topic_partition
                queue = self._queues.get(topic_partition)
                if queue is None:
                    queue = self._queues[topic_partition] = _Queue(topic_partition)
                touched[topic_partition] = queue
            queue.records.append(record)
        for queue in touched.values():
            self._serve(queue)

    # --- start of a window ---------------------------------------------------------------------

    def _serve(self, queue: _Queue) -> None:
        """Start every window that may start. A window that is over at once makes room inside the loop."""
        if queue.serving:
            return
        queue.serving = True
        while queue.records and not queue.busy and not self._waits_for_more(queue):
            self._admit(queue)
        queue.serving = False
        if not queue.records and not queue.busy:
            self._queues.pop(queue.topic_partition, None)

    def _waits_for_more(self, queue: _Queue) -> bool:
        """Return True if the next window is not full and may linger; a full one cancels its timer."""
        if len(queue.records) >= self._size:
            if queue.timer is not None:
                queue.timer.cancel()
                queue.timer = None
            return False
        if queue.timer is None and self._linger_s > 0 and not self._in_flight.draining:
            queue.due_at = asyncio.get_running_loop().time() + self._linger_s
            self._linger(queue, self._linger_s)
        return queue.timer is not None

    def _linger(self, queue: _Queue, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        queue.timer = loop.call_later(
            min(delay_s, _CHECK_S), self._context.loop_thread.guard, self._check_lingering, queue
        )

    def _check_lingering(self, queue: _Queue) -> None:
        """Start the lingering window when its time is over, or when a drain waits for it."""
        queue.timer = None
        left_s = queue.due_at - asyncio.get_running_loop().time()
        if left_s > 0 and not self._in_flight.draining:
            self._linger(queue, left_s)
        elif not queue.busy and queue.records:
            self._admit(queue)
            self._serve(queue)

    def _admit(self, queue: _Queue) -> None:
        if self._gate.closed:
            queue.busy = True
            self._gate.delay(partial(self._start_delayed, queue))
        else:
            self._start(queue)

    def _start_delayed(self, queue: _Queue) -> None:
        queue.busy = False
        self._start(queue)
        self._serve(queue)

    # --- course of a window --------------------------------------------------------------------

    def _start(self, queue: _Queue) -> None:
        records = self._next_records(queue.records)
        window = _Window(queue, records, time.monotonic())
        if self._drop_fenced(window):
            return
        queue.busy = True
        due = self._state.due(records[0]) if self._state is not None else ()
        if due:
            answers: list[_Answer] = []
            self._calls.run(self._fire(records[0], due, answers), partial(self._fired, window, answers), records)
        else:
            self._call(window)

    def _drop_fenced(self, window: _Window) -> bool:
        """Return True, and the records, if their partition was revoked."""
        if not self._context.is_fenced(window.records[0]):
            return False
        self.ack([(record, record.credit) for record in window.records], AckStatus.FENCED)
        self.open -= len(window.records)
        return True

    async def _fire(self, record: Record, due: list[str], answers: list[_Answer]) -> None:
        """Call `on_timer` for one key after the other."""
        assert self._state is not None
        for number, key in enumerate(due, 1):
            started = time.monotonic()
            value, error = None, None
            try:
                value = self._state.fire(key, record, _timer_error)
                if inspect.isawaitable(value):
                    value = await value
            except BaseException as exc:  # whatever the hook raises; the end of the loop comes here too
                if isinstance(exc, asyncio.CancelledError) and self._context.loop_thread.closed:
                    raise
                error = exc
            answers.append((value, error, time.monotonic() - started))
            if number % _FIRED_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _fired(self, window: _Window, answers: list[_Answer]) -> None:
        """Send the answers with a share of the window's first record, then call `arrange`."""
        queue, records, _ = window
        if self._drop_fenced(window):
            queue.busy = False
            self._serve(queue)
            return
        share, records[0] = shares_of(records[0], [records[0].payload] * 2)
        self.emit(FiredTimers(RecordProgress(share, CreditPool(share.credit)), answers))
        self._call(window)

    def _call(self, window: _Window) -> None:
        queue, records, _ = window
        # `arrange` may empty the list it gets.
        arguments = records.copy(), self._tasks.context(queue.topic_partition)
        done = partial(self._arranged, window)
        if self._state is None:
            self._calls.call(self._arrange, arguments, done, records)
        else:
            self._state.call(self._calls, self._arrange, arguments, done, records, records, self._error_of)

    def _next_records(self, waiting: deque[Record]) -> list[Record]:
        """Take the records of the next window: at most `size`, all of one epoch."""
        epoch = waiting[0].epoch
        if len(waiting) <= self._size and waiting[-1].epoch == epoch:
            records = list(waiting)
            waiting.clear()
            return records
        records = []
        while waiting and len(records) < self._size and waiting[0].epoch == epoch:
            records.append(waiting.popleft())
        return records

    def _arranged(self, window: _Window, tasks: Any, error: BaseException | None) -> None:
        took_s = time.monotonic() - window.started
        if (error := self._error_of(tasks, error)) is not None:
            self._bus.emit(HookRan("arrange", took_s, describe(error), error, EventContext.of(window.records)))
            self._try_alone(window, error)
            return
        self._bus.emit(HookRan("arrange", took_s))
        self._emit_tasks(window, tasks)
        self._end(window)

    def _end(self, window: _Window) -> None:
        window.queue.busy = False
        self.open -= len(window.records)
        self._serve(window.queue)

    def _error_of(self, tasks: Any, error: BaseException | None) -> BaseException | None:
        if error is None and not are_tasks(tasks):
            what = "a list of ExecutorTask with the offsets they work for"
            error = TypeError(f"arrange must return {what}, not {_described(tasks)}")
        return error and located("arrange", self._arrange, error)

    def _try_alone(self, window: _Window, error: BaseException) -> None:
        """Call `arrange` for single records, to distinguish a mistake from a bad record."""
        topic_partition = window.queue.topic_partition
        hook: Callable[..., Any] = self._arrange
        arguments: Arguments = lambda record: ([record], self._tasks.context(topic_partition))  # noqa: E731
        if self._state is not None:
            hook, arguments = self._state.on_trial(hook, arguments)
        self._context.trial.run(
            self._calls,
            self.step_id,
            hook,
            window.records,
            error,
            arguments,
            self._error_of,
            partial(self._give_up, window, error),
        )

    def _give_up(self, window: _Window, error: BaseException, calls: int) -> None:
        tokens = [(record, record.credit) for record in window.records]
        failure = failure_of(FailureKind.ARRANGE, self.step_id, error, tokens)
        failure.calls, failure.refuted = calls, calls == 0
        self.fail(failure)
        self._end(window)

    def _emit_tasks(self, window: _Window, tasks: list[ExecutorTask]) -> None:
        if self.step_id not in self._proof.works:
            self._proof.add(self.step_id)
        run = WindowRun(window.records, window.started, keep_messages=self._keep_messages)
        runs = [run.attribute(task) for task in tasks]
        if duplicates := self._tasks.add(run.topic_partition, tasks):
            about = next(run.about for run in reversed(runs) if run.task.task_id == duplicates[0])
            self._bus.emit(DuplicateTasks(run.topic_partition, len(duplicates), duplicates[0], about))
        self.emit_all([run, *runs])


_timer_error = partial(returned_error, "on_timer")


def _described(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        if all(type(item) is ExecutorTask for item in value):
            wrong = next(task for task in value if not are_tasks([task]))
            if type(wrong.task_id) is not str:
                return f"one whose task_id is {wrong.task_id!r}"
            return f"one whose source_offsets are {wrong.source_offsets!r}"
        kinds = sorted({type(item).__name__ for item in value})
        return f"a list of {', '.join(kinds)}"
    return type(value).__name__
