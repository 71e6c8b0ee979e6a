"""One-shot executor: a process for each task."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

from drakkar_flow.config.sections.executor import ProgramConfig
from drakkar_flow.errors import StartupError
from drakkar_flow.executor.base import Done, ExecutorStatistics, Running, TaskOutcome, wait_shielded
from drakkar_flow.executor.child import ProgramRun
from drakkar_flow.executor.environment import startup_problems
from drakkar_flow.executor.host_limits import provide_for, release
from drakkar_flow.executor.host_watch import HostWatch
from drakkar_flow.executor.launch import Launcher
from drakkar_flow.executor.launch_gate import Hold, LaunchGate, NotStarted, Refusal
from drakkar_flow.executor.priority import PriorityQueue, Ticket
from drakkar_flow.executor.reaper_client import Reaper
from drakkar_flow.executor.task_events import task_finished
from drakkar_flow.model.task import ExecutorError, ExecutorTask
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.executor import ExecutorBreakerChanged, HostLimitLow
from drakkar_flow.observe.events.tasks import TasksStarted

__all__ = ["OneshotExecutor"]

_BATCH_S = 0.005
"""Maximum delay of results, to reach the loop together while other tasks keep the slots busy."""

_GROW_S = 1.0  # between two attempts to start a thread during a shortage


class _Job:
    """A task on its way through a slot; `done` is called on the loop's thread, after the slot is free again."""

    __slots__ = (
        "_give_up",
        "child",
        "done",
        "given_up",
        "hold",
        "is_configured",
        "outcome",
        "queue_wait_s",
        "slot",
        "submitted_at",
        "task",
        "ticket",
    )  # fmt: skip

    def __init__(self, task: ExecutorTask, child: ProgramRun, done: Done, give_up: Callable[[_Job], None]) -> None:
        self.task = task
        self.child = child
        self.done = done
        self.submitted_at = time.monotonic()
        self.queue_wait_s = 0.0
        self.slot = -1
        self.hold: Hold | None = None
        self.is_configured = False
        self.outcome: TaskOutcome | None = None
        self.given_up = False
        self.ticket: Ticket | None = None
        self._give_up = give_up

    def cancel(self) -> None:
        self._give_up(self)

    def state(self) -> str:
        for_s = time.monotonic() - self.submitted_at
        if pid := self.child.pid:
            return f"runs as pid {pid} for {for_s - self.queue_wait_s:.1f} s"
        if self.hold is not None:
            return f"waits for {for_s:.1f} s until its program can be started"
        return f"waits for a slot for {for_s:.1f} s" if self.outcome is None else "has ended"


class _Refused:
    """A task that ended at its submission."""

    def cancel(self) -> None:
        pass

    def state(self) -> str:
        return "has ended"


class OneshotExecutor:
    """Runs each task as a separate process, at most `config.max_executors` concurrently.

    A slot is a thread that owns one program at a time: it starts the program, feeds and reads its
    pipes, enforces its deadline and reaps it, so deadlines hold even when the loop is busy. Threads
    are started on demand. Results return to the loop in batches. The inherited environment is the
    one at `start`.

    `submit` and `close` are called on the loop that `start` ran on, which is also where events are
    emitted: TasksStarted when a task is accepted, TaskFinished when it has ended.

    A task whose program can't be started without its fault keeps its slot and waits there
    (`launch_gate.py`). A program that the kernel can't kill (for example during I/O on a dead network disk) keeps its
    slot.
    """

    def __init__(self, config: ProgramConfig, bus: Bus) -> None:
        self._config = config
        self._bus = bus
        self._guard = Reaper(bus)
        self._slots = config.max_executors
        self._watch: HostWatch | None = None
        self._gate: LaunchGate | None = None
        self._growing: asyncio.TimerHandle | None = None
        self._launcher: Launcher | None = None
        self._jobs: set[_Job] = set()
        self._closing = False
        self._emptied: asyncio.Future[None] | None = None  # created by close, resolved when no job is left
        # Shared with the slots' threads; the first two under the lock.
        self._waiting = PriorityQueue[_Job]()
        self._running = 0
        self._ended = 0
        self._lock = threading.Lock()
        self._tokens = SimpleQueue[int]()  # a 1 for each job pushed; 0 ends a thread
        self._finished = deque[_Job]()
        self._wake_pending = False
        self._timer_runs = False
        self._threads: list[threading.Thread] = []

    async def start(self) -> None:
        """Read the environment and prepare; programs that tasks name are looked up on demand.

        Fewer slots than configured are used if the descriptors of this process are not sufficient.

        Raises:
            StartupError: if `executor.binary_path` can't be run or `executor.cwd` is no directory.
        """
        if problems := startup_problems(self._config, os.environ):
            raise StartupError(problems, exit_code=2)
        self._loop = asyncio.get_running_loop()
        for shortfall in provide_for(self, self._slots):
            self._slots = min(self._slots, shortfall.slots)
            self._bus.emit(HostLimitLow(*shortfall[:3], self._slots))
        self._watch = HostWatch(self._bus, "executor")
        self._gate = LaunchGate(self._watch, self._breaker_changed, self._config.unavailable_after_s)
        self._launcher = Launcher(self._config, os.environ, self._guard.variables)

    def statistics(self) -> ExecutorStatistics:
        """Return the numbers of running and waiting tasks; callable from any thread."""
        with self._lock:
            return ExecutorStatistics(self._running, len(self._waiting), self._slots, self._ended)

    def submit(self, task: ExecutorTask, priority: object, done: Done) -> Running:
        """Accept `task`; `done` gets its result, or None if it was abandoned.

        Waiting tasks start by ascending `priority`, then in arrival order. A priority that can't be
        compared with those of waiting tasks is an error of the task. An executor that is closing or
        was not started abandons every task immediately.
        """
        if self._closing or self._launcher is None or self._gate is None:
            done(None)
            return _Refused()
        job = _Job(task, self._launcher.child(), done, self._give_up)
        try:
            with self._lock:
                job.ticket = self._waiting.push(priority, job)
        except TypeError as exc:
            done(ExecutorError(task=task, kind="internal", exception=f"the priority can't be compared: {exc}"))
            return _Refused()
        self._jobs.add(job)
        self._serve(self._launcher, self._gate)
        self._bus.emit(TasksStarted(count=1))
        return job

    async def close(self) -> None:
        """Kill and reap running programs and end every thread; safe to call twice.

        Takes at most `kill_grace_s`, and only for programs whose pipes are held by processes that
        can't be found any more.
        """
        self._closing = True
        if self._emptied is None:
            self._emptied = asyncio.get_running_loop().create_future()
        for job in list(self._jobs):
            self._give_up(job)
        self._note_empty()
        try:
            await wait_shielded(self._emptied)
        finally:
            self._end_threads()
            self._guard.close()
            if self._watch is not None:
                self._watch.close()
            release(self)

    # On the loop's thread

    def _serve(self, launcher: Launcher, gate: LaunchGate) -> None:
        """Ensure that a slot takes the pushed job."""
        self._tokens.put(1)
        if self._growing is None and len(self._threads) < min(len(self._jobs), self._slots):
            self._guard.start()
            self._grow(launcher, gate)
        if not self._timer_runs and self._waiting:
            self._timer_runs = True
            self._loop.call_later(_BATCH_S, self._collect_while_tasks_wait)

    def _grow(self, launcher: Launcher, gate: LaunchGate) -> None:
        """Start the missing threads; during a shortage the existing ones do the work."""
        self._growing = None
        while not self._closing and len(self._threads) < min(len(self._jobs), self._slots):
            name = f"slot-{len(self._threads)}"
            thread = threading.Thread(
                target=self._slot, args=(launcher, gate, len(self._threads)), name=name, daemon=True
            )
            try:
                thread.start()
            except RuntimeError as exc:
                if self._watch is not None:
                    self._watch.report("processes", f"a slot can't be started: {exc}")
                self._growing = self._loop.call_later(_GROW_S, self._grow, launcher, gate)
                return
            self._threads.append(thread)

    def _breaker_changed(self, state: str, failures: int, reason: str) -> None:
        with suppress(RuntimeError):  # the loop is closed: no subscriber is left
            event = ExecutorBreakerChanged(state, failures, reason, "oneshot")
            self._loop.call_soon_threadsafe(self._bus.emit, event)

    def _give_up(self, job: _Job) -> None:
        """Remove `job` from the queue, or kill its program: it is settled when its slot is free."""
        if job.given_up or job not in self._jobs:
            return
        job.given_up = job.outcome is None
        with self._lock:
            waiting = job.ticket is not None and self._waiting.cancel(job.ticket)
        if waiting:
            self._settle(job)
        else:
            job.child.kill()
            LaunchGate.wake(job)

    def _note_empty(self) -> None:
        if self._emptied is not None and not self._jobs and not self._emptied.done():
            self._emptied.set_result(None)

    def _end_threads(self) -> None:
        for _ in self._threads:
            self._tokens.put(0)
        for thread in self._threads:
            thread.join()  # idle: ends immediately
        self._threads.clear()
        if self._launcher is not None:
            self._launcher.close()
            self._launcher = None
        if self._growing is not None:
            self._growing.cancel()

    def _collect(self) -> None:
        """Settle the jobs that the slots finished since the last call."""
        self._wake_pending = False  # before the deque is emptied, so that no job is left behind
        while self._finished:
            self._settle(self._finished.popleft())

    def _collect_while_tasks_wait(self) -> None:
        self._timer_runs = False  # from here on a finishing slot wakes the loop itself
        self._collect()
        if self._waiting:
            self._timer_runs = True
            self._loop.call_later(_BATCH_S, self._collect_while_tasks_wait)

    def _settle(self, job: _Job) -> None:
        self._jobs.discard(job)
        self._ended += 1
        outcome = None if job.given_up else job.outcome
        waited_s = job.queue_wait_s if outcome is not None else time.monotonic() - job.submitted_at
        self._bus.emit(task_finished(outcome, waited_s, job.child.spawn_s))
        job.done(outcome)
        if self._closing:
            self._note_empty()

    # On the slots' threads

    def _slot(self, launcher: Launcher, gate: LaunchGate, number: int) -> None:
        while self._tokens.get():
            with self._lock:
                job = self._waiting.pop()
                if job is None:  # its caller gave up
                    continue
                self._running += 1
            job.queue_wait_s = time.monotonic() - job.submitted_at
            job.slot = number
            outcome = launcher.run(job.task, job.child) if not gate.troubled else None
            if outcome is None or isinstance(outcome, NotStarted):
                job.outcome = self._start_later(job, launcher, gate, outcome)
            else:
                job.outcome = outcome
            if gate.troubled:
                gate.freed()
            with self._lock:
                self._running -= 1
            self._hand_back(job)

    def _start_later(
        self, job: _Job, launcher: Launcher, gate: LaunchGate, first: NotStarted | None
    ) -> TaskOutcome | None:
        """Run a job as soon as its program can be started; None if it was abandoned before."""
        job.is_configured = launcher.is_configured(job.task)

        def attempt(on_started: Callable[[], None]) -> TaskOutcome | NotStarted:
            job.queue_wait_s = time.monotonic() - job.submitted_at
            return launcher.run(job.task, job.child, on_started)

        outcome = gate.run(job, first, attempt)
        if isinstance(outcome, Refusal):
            return launcher.failed(job.task, outcome.kind, outcome.reason)
        return outcome

    def _hand_back(self, job: _Job) -> None:
        self._finished.append(job)
        if not self._wake_pending and not (self._timer_runs and self._waiting):
            self._wake_pending = True
            with suppress(RuntimeError):  # the loop is closed: no caller waits any more
                self._loop.call_soon_threadsafe(self._collect)
