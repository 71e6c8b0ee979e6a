"""Persistent executor: distributes tasks to children, and handles tasks that no child can take."""

from __future__ import annotations

import asyncio
import os
import time

from drakkar_flow.config.sections.executor import ProgramConfig
from drakkar_flow.errors import Problem, StartupError
from drakkar_flow.executor.base import Done, Executor, ExecutorStatistics, Running, TaskOutcome, section_of
from drakkar_flow.executor.environment import startup_problems
from drakkar_flow.executor.persistent.child import Child
from drakkar_flow.executor.persistent.child_supervisor import ChildSupervisor
from drakkar_flow.executor.persistent.codec import UnencodableTask
from drakkar_flow.executor.persistent.fallback import run_oneshot
from drakkar_flow.executor.persistent.outcomes import failed
from drakkar_flow.executor.persistent.request import Request
from drakkar_flow.executor.persistent.task_event_batcher import TaskEventBatcher
from drakkar_flow.executor.precomputed import precomputed
from drakkar_flow.executor.priority import PriorityQueue
from drakkar_flow.model.task import ExecutorError, ExecutorTask
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.executor import ChildLogged
from drakkar_flow.observe.events.tasks import TaskFellBack

__all__ = ["PersistentExecutor"]

HOUSEKEEPING_S = 1.0  # interval of the checks of age, memory and waiting tasks
_OPEN = "no child can be started: the breaker is open"


class PersistentExecutor:
    """Distributes tasks to a pool of long-lived children, several per child if it supports that.

    A task goes to the child with the fewest requests; while all are full it waits, by priority. All
    work happens on the loop that `start` ran on, without a coroutine or a thread per task. Tasks that
    no child can take run in `oneshot` if there is one, and fail otherwise.
    """

    def __init__(self, config: ProgramConfig, bus: Bus, oneshot: Executor | None = None) -> None:
        self._config = config
        self._settings = settings = config.persistent
        self._bus = bus
        self._oneshot = oneshot
        self._keepers = ChildSupervisor(config, bus, self, self._divert_waiting)
        self.children = self._keepers.children
        """The children that start or live now."""
        self._per_child = settings.max_in_flight_per_child or (64 if settings.protocol == "lines" else 1)
        self._command = [config.binary_path or "", *settings.args]
        self._waiting = PriorityQueue[Request]()
        self._ended = 0
        self._started = False
        self._closing = False

    # --- life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start every child; returns when all of them are ready.

        Raises:
            StartupError: if there is no program, or a child can't be started or is not ready in time.
        """
        problems = startup_problems(self._config, os.environ)
        if self._config.binary_path is None:
            problems.append(Problem("executor.binary_path", "no program for the children", "name it"))
        if problems:
            raise StartupError(problems, exit_code=2)
        self._loop = asyncio.get_running_loop()
        self._tally = TaskEventBatcher(self._bus, self._loop)
        if self._oneshot is not None:
            await self._oneshot.start()
        self._housekeeping = self._loop.call_later(HOUSEKEEPING_S, self.keep_house)
        self._served_at = time.monotonic()  # time of the last observed work of a child
        self._started = True
        if (reason := await self._keepers.start()) is not None:
            await self.close()
            remedy = "run it by hand with the arguments of executor.persistent.args"
            raise StartupError([Problem("executor.persistent", reason, remedy)])

    async def close(self) -> None:
        """Abandon waiting and running tasks, end the children; safe to call twice.

        Idle children get `close_grace_s` to exit, all others are killed.
        """
        self._closing = True
        if not self._started:
            return
        self._housekeeping.cancel()
        while (request := self._waiting.pop()) is not None:
            self._finish(request, None)
        for child in self.children:
            for request in list(child.in_flight.values()):
                self._finish(request, None)
        if self._oneshot is not None:
            await self._oneshot.close()
        await self._keepers.close()
        self._tally.report()

    def statistics(self) -> ExecutorStatistics:
        """Return the numbers of running and waiting requests, and the maximum; callable from any thread."""
        running = sum([len(child.in_flight) for child in tuple(self.children)])
        waiting, ended = len(self._waiting), self._ended
        if self._oneshot is not None:
            beside = self._oneshot.statistics()
            running, waiting, ended = running + beside.running, waiting + beside.waiting, ended + beside.ended
        return ExecutorStatistics(running, waiting, self._keepers.size * self._per_child, ended)

    # --- tasks ----------------------------------------------------------------------------------

    def submit(self, task: ExecutorTask, priority: object, done: Done) -> Running:
        """Accept `task`; `done` gets its result, or None if it was abandoned."""
        now = time.monotonic()
        request = Request(task, priority, done, now, self._cancel)
        if self._closing or not self._started:
            request.done = None
            done(None)
        elif task.precomputed is not None:
            request.done = None
            done(precomputed(task, self._config.success_codes))
        elif task.binary_path is not None and task.binary_path != self._config.binary_path:
            self._elsewhere(request, f"the task names a program, {task.binary_path!r}")
        elif not self._waiting and (child := self._roomiest()) is not None:
            self._give(request, child, now)
        elif self._oneshot is not None and self._keepers.state != "closed":
            self._elsewhere(request, _OPEN)
        else:
            self._wait(request)
        return request

    def _wait(self, request: Request) -> None:
        try:
            request.ticket = self._waiting.push(request.priority, request)
        except TypeError as exc:
            reason = f"the priority can't be compared: {exc}"
            self._finish(request, failed(request.task, "internal", reason, None, 0.0))

    def _roomiest(self) -> Child | None:
        """Return the child with the fewest requests, if any has room."""
        found = None
        fewest = 1 << 30
        for child in self.children:
            load = len(child.in_flight)
            if load < fewest and load < child.capacity:
                found, fewest = child, load
        return found

    def _give(self, request: Request, child: Child, now: float) -> None:
        try:
            child.send(request, now)
        except UnencodableTask as exc:
            self._elsewhere(request, str(exc))
        else:
            self._tally.started += 1

    def _elsewhere(self, request: Request, why: str) -> None:
        """Handle a task that no child can take: run it one-shot, or fail it."""
        if self._oneshot is None:
            section = section_of(request.task)
            reason = f"{why}; {section}.persistent.fallback_oneshot would run it as a separate process"
            self._finish(request, failed(request.task, "protocol", reason, None, 0.0))
            return
        self._bus.emit(TaskFellBack(request.task.task_id, why, tuple(request.task.source_offsets[:10])))

        def ended(outcome: TaskOutcome | None) -> None:
            done, request.done = request.done, None
            if done is not None:
                done(outcome)

        request.elsewhere = run_oneshot(self._oneshot, self._config, request.task, request.priority, ended)

    def _dispatch(self) -> None:
        waiting = self._waiting
        now = 0.0
        while waiting and (child := self._roomiest()) is not None:
            request = waiting.pop()
            assert request is not None
            now = now or time.monotonic()
            self._give(request, child, now)

    def _cancel(self, request: Request) -> None:
        if request.elsewhere is not None:
            request.elsewhere.cancel()
        elif request.child is not None:
            self._finish(request, None)
            request.child.give_up(request)
        elif request.ticket is not None and self._waiting.cancel(request.ticket):
            self._finish(request, None)

    def _finish(self, request: Request, outcome: TaskOutcome | None) -> None:
        done, request.done = request.done, None
        if done is not None:
            if type(outcome) is ExecutorError:
                outcome.executor = "persistent"
                outcome.command = self._command
            self._ended += 1
            self._tally.note(request, outcome)
            done(outcome)

    # --- called by the children -----------------------------------------------------------------

    def ready(self, child: Child) -> None:
        """React to a ready child."""
        assert child.conversation is not None
        self._per_child = child.conversation.max_in_flight
        self._keepers.ready(child)
        self._dispatch()

    def settle(self, request: Request, outcome: TaskOutcome) -> None:
        """React to the end of a request."""
        self._finish(request, outcome)

    def turned(self, child: Child) -> None:
        """React to answered or lost requests of a child."""
        if child.answered:
            self._keepers.answered(child)
        self._dispatch()

    def logged(self, child: Child, lines: list[str], more: int) -> None:
        """React to stderr of a child."""
        self._bus.emit(ChildLogged(child.number, child.pid, tuple(lines), more))

    # --- without a child ------------------------------------------------------------------------

    def _divert_waiting(self) -> None:
        if self._oneshot is not None:
            while (request := self._waiting.pop()) is not None:
                self._elsewhere(request, _OPEN)

    def keep_house(self) -> None:
        """Look at age, memory and waiting tasks now; the loop does it every `HOUSEKEEPING_S` seconds."""
        now = time.monotonic()
        self._housekeeping.cancel()
        self._housekeeping = self._loop.call_later(HOUSEKEEPING_S, self.keep_house)
        self._keepers.recycle(now)
        patience_s = self._settings.unavailable_after_s or self._config.unavailable_after_s
        if self._keepers.state == "closed" and any(child.capacity for child in self.children):
            self._served_at = now
        elif patience_s is not None and now - self._served_at >= patience_s:
            self._fail_waiting(now - patience_s, f"no child was ready for {patience_s:g} s")

    def _fail_waiting(self, since: float, reason: str) -> None:
        young = []
        while (request := self._waiting.pop()) is not None:
            if request.submitted_at > since:
                young.append(request)
            else:
                self._finish(request, failed(request.task, "unavailable", reason, None, 0.0))
        for request in young:
            self._wait(request)
