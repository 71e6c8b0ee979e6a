"""The arrange step: windows of records of one partition become tasks, one window at a time."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from drakkar_flow.model.outcome import Ack, AckStatus, FailureKind
from drakkar_flow.model.record import Lane, Record
from drakkar_flow.model.task import ExecutorTask
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.context import EventContext
from drakkar_flow.observe.events.hooks import HookRan
from drakkar_flow.observe.events.tasks import DuplicateTasks
from drakkar_flow.runtime.bridge import Bridge
from drakkar_flow.runtime.failures import describe, failure_of, located
from drakkar_flow.runtime.flight import Flight
from drakkar_flow.runtime.memory import MemoryGate
from drakkar_flow.runtime.steps.pending import PendingTasks
from drakkar_flow.runtime.steps.step import Worker
from drakkar_flow.runtime.steps.windows import WindowRun, are_tasks

__all__ = ["ArrangeWorker"]

_LOOK_S = 0.1  # how long a drain may go unnoticed by a window that lingers


class _Queue:
    """The records of one partition that wait for their window."""

    __slots__ = ("busy", "due_at", "records", "timer")

    def __init__(self) -> None:
        self.records: deque[Record] = deque()
        self.busy = False
        self.timer: asyncio.TimerHandle | None = None
        self.due_at = 0.0  # when the window that lingers has to start, by the loop's clock


class ArrangeWorker(Worker):
    """Makes windows and calls `arrange` for them: serial in a partition, parallel between partitions.

    Emits a `WindowRun` for each window and behind it a `TaskRun` for each of its tasks.
    """

    def __init__(
        self,
        bridge: Bridge,
        bus: Bus,
        flight: Flight,
        gate: MemoryGate,
        pending: PendingTasks,
        stage: str,
        arrange: Callable[..., Any],
        size: int,
        linger_s: float,
        *,
        keep_messages: bool,
    ) -> None:
        super().__init__(bridge)
        self._bus = bus
        self._flight = flight
        self._gate = gate
        self._tasks = pending
        self._stage = stage
        self._arrange = arrange
        self._size = size
        self._linger_s = linger_s
        self._keep_messages = keep_messages
        self._queues: dict[Lane, _Queue] = {}

    def accept(self, items: list[Record]) -> None:
        """Queue records by partition and start what can start."""
        self.open += len(items)
        touched: dict[Lane, _Queue] = {}
        lane: Lane = ("", -1)
        queue: _Queue | None = None
        for record in items:
            if queue is None or record.partition != lane[1] or record.topic != lane[0]:
                lane = record.lane
                queue = self._queues.get(lane)
                if queue is None:
                    queue = self._queues[lane] = _Queue()
                touched[lane] = queue
            queue.records.append(record)
        for lane, queue in touched.items():
            self._serve(lane, queue)

    def _serve(self, lane: Lane, queue: _Queue) -> None:
        while queue.records and not queue.busy:
            lingers = self._linger_s > 0 and not self._flight.draining
            if len(queue.records) < self._size and lingers and queue.timer is None:
                queue.due_at = asyncio.get_running_loop().time() + self._linger_s
                self._linger(lane, queue, self._linger_s)
            if queue.timer is not None:
                if len(queue.records) < self._size:
                    return
                queue.timer.cancel()
                queue.timer = None
            self._start_window(lane, queue)
        if not queue.records and not queue.busy:
            self._queues.pop(lane, None)

    def _linger(self, lane: Lane, queue: _Queue, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        delay_s = min(delay_s, _LOOK_S)
        queue.timer = loop.call_later(delay_s, self._bridge.guard, self._look, lane, queue)

    def _look(self, lane: Lane, queue: _Queue) -> None:
        """Start the window that lingers when its time is over, or when a drain waits for it."""
        queue.timer = None
        left_s = queue.due_at - asyncio.get_running_loop().time()
        if left_s > 0 and not self._flight.draining:
            self._linger(lane, queue, left_s)
        elif not queue.busy and queue.records:
            self._start_window(lane, queue)
            self._serve(lane, queue)

    def _start_window(self, lane: Lane, queue: _Queue) -> None:
        if self._gate.closed:
            queue.busy = True
            self._gate.delay(partial(self._start_delayed, lane, queue))
        else:
            self._open_window(lane, queue)

    def _start_delayed(self, lane: Lane, queue: _Queue) -> None:
        queue.busy = False
        self._open_window(lane, queue)
        self._serve(lane, queue)

    def _open_window(self, lane: Lane, queue: _Queue) -> None:
        waiting = queue.records
        if len(waiting) <= self._size and waiting[0].epoch == waiting[-1].epoch:
            records = list(waiting)
            waiting.clear()
        else:
            epoch = waiting[0].epoch
            records = []
            while waiting and len(records) < self._size and waiting[0].epoch == epoch:
                records.append(waiting.popleft())
        if self._flight.has_fences and self._flight.is_fenced(records[0]):
            for record in records:
                self.ack(Ack(record, record.credit, AckStatus.FENCED))
            self.open -= len(records)
            return
        queue.busy = True
        started = time.monotonic()

        def arranged(tasks: Any, error: BaseException | None) -> None:
            error = self._error_of(tasks, error)
            took_s = time.monotonic() - started
            if error is None:
                self._bus.emit(HookRan("arrange", took_s))
                self._finish(records, tasks, started)
                window_over()
            else:
                self._bus.emit(HookRan("arrange", took_s, describe(error), error, EventContext.of(records)))
                self._give_up(lane, records, error, window_over)

        def window_over() -> None:
            queue.busy = False
            self.open -= len(records)
            if inline_over:
                self._serve(lane, queue)

        inline_over = False
        # A list of its own: `arrange` may empty it.
        self._calls.call(self._arrange, (records.copy(), self._tasks.context(lane)), arranged, records)
        inline_over = True

    def _error_of(self, tasks: Any, error: BaseException | None) -> BaseException | None:
        if error is None and not are_tasks(tasks):
            what = "a list of ExecutorTask with the offsets they work for"
            error = TypeError(f"arrange must return {what}, not {_described(tasks)}")
        return error and located("arrange", self._arrange, error)

    def _give_up(self, lane: Lane, records: list[Record], error: BaseException, over: Callable[[], None]) -> None:
        def tried(calls: int) -> None:
            holds = [(record, record.credit) for record in records]
            failure = failure_of(FailureKind.ARRANGE, self._stage, error, holds)
            failure.calls, failure.refuted = calls, calls == 0
            self.fail(failure)
            over()

        def alone(record: Record) -> tuple[Any, ...]:
            return [record], self._tasks.context(lane)

        self.trial.run(
            self._calls, self.proof, self._stage, self._arrange, records, error, alone, self._error_of, tried
        )

    def _finish(self, records: list[Record], tasks: Any, started: float) -> None:
        if self._stage not in self.proof.works:
            self.proof.add(self._stage)
        window = WindowRun(records, started, keep_messages=self._keep_messages)
        runs = [window.attribute(task) for task in tasks]
        if twins := self._tasks.add(window.lane, tasks):
            about = next(run.about for run in reversed(runs) if run.task.task_id == twins[0])
            self._bus.emit(DuplicateTasks(window.lane, len(twins), twins[0], about))
        chunk = self._pending().items
        chunk.append(window)
        chunk.extend(runs)


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
