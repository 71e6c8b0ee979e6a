"""The executor `persistent`: a warm pool of children, and who gets which task."""

from __future__ import annotations

import asyncio
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from drakkar_flow.config.executor import ExecutorConfig
from drakkar_flow.errors import Problem, StartupError
from drakkar_flow.executor.base import Done, Executor, ExecutorStatistics, Outcome, Running, outlast
from drakkar_flow.executor.confine import confined
from drakkar_flow.executor.environment import base_environment, find_program, startup_problems
from drakkar_flow.executor.persistent.child import Child, ChildLimits, Farewell
from drakkar_flow.executor.persistent.dialect import Unspeakable
from drakkar_flow.executor.persistent.fallback import run_oneshot
from drakkar_flow.executor.persistent.outcomes import failed
from drakkar_flow.executor.persistent.process import spawn
from drakkar_flow.executor.persistent.request import Request
from drakkar_flow.executor.persistent.tally import Tally
from drakkar_flow.executor.precomputed import precomputed
from drakkar_flow.executor.priority import PriorityQueue
from drakkar_flow.executor.spawn import Environment, Spawner
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.kernel.breaker import Breaker, BreakerState
from drakkar_flow.model.task import ExecutorTask
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events import ChildEnded, ChildLogged, ChildStarted, ExecutorBreakerChanged, TaskFellBack

__all__ = ["PersistentExecutor"]

_EARLY_S = 0.1  # a filter says nothing at its start; one that can't work has ended by then
_ANY = 1 << 30
_HOUSEKEEPING_S = 1.0  # how often age, memory and waiting tasks are looked at


class PersistentExecutor:
    """Gives tasks to children that live on, several at a time where they can.

    A keeper for each child starts it, waits for its end and starts it again: after a pause that grows
    with each failure in a row, and not at all while the breaker is open, but for one that probes. A
    task goes to the child with the fewest requests; while none has room it waits, by priority. All
    of it happens on the loop that `start` ran on, without a coroutine or a thread for a task.

    What can't be given to a child is run by `oneshot` where there is one, and fails otherwise.
    """

    def __init__(self, config: ExecutorConfig, bus: Bus, oneshot: Executor | None = None) -> None:
        self._config = config
        self._settings = settings = config.persistent
        self._bus = bus
        self._oneshot = oneshot
        caps = (config.max_stdout_bytes, config.max_stderr_bytes)
        self._limits = ChildLimits(config.task_timeout_seconds, config.kill_grace_s, caps, config.limits)
        self._backoff = Backoff(settings.restart_initial_s, settings.restart_max_s)
        self._breaker = Breaker(settings.breaker_failures, settings.breaker_cooldown_s)
        self._breaker_state: BreakerState = "closed"
        self._tickets: dict[int, int] = {}  # of the breaker, by child
        self._size = settings.children or config.max_executors
        self._per_child = settings.max_in_flight_per_child or (64 if settings.protocol == "lines" else 1)
        self._children: list[Child] = []
        self._waiting = PriorityQueue[Request]()
        self._ended = 0
        self._closing = False
        self._keepers: list[asyncio.Task[None]] = []

    # --- life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start every child; returns when all of them are ready.

        Raises:
            StartupError: when there is no program, or a child can't be started or is not ready in time.
        """
        problems = startup_problems(self._config, os.environ)
        if self._config.binary_path is None:
            problems.append(Problem("executor.binary_path", "no program for the children", "name it"))
        if problems:
            raise StartupError(problems, exit_code=2)
        self._loop = asyncio.get_running_loop()
        self._tally = Tally(self._bus, self._loop)
        self._woken = asyncio.Event()
        self._failure: asyncio.Future[str] = self._loop.create_future()
        self._warm: asyncio.Future[str] = self._loop.create_future()
        self._environment = Environment(base_environment(self._config, os.environ))
        self._spawner = Spawner(self._config.cwd)
        self._spawning = ThreadPoolExecutor(1, thread_name_prefix="spawn")
        if self._oneshot is not None:
            await self._oneshot.start()
        self._keepers = [self._loop.create_task(self._keep(number)) for number in range(self._size)]
        self._housekeeping = self._loop.call_later(_HOUSEKEEPING_S, self._keep_house)
        await self._until_warm()

    async def _until_warm(self) -> None:
        await asyncio.wait([self._warm, self._failure], return_when=asyncio.FIRST_COMPLETED)
        if not self._failure.done() and self._settings.protocol == "lines":
            await asyncio.wait([self._failure], timeout=_EARLY_S)
        if self._failure.done():
            reason = self._failure.result()
            await self.close()
            remedy = "run it by hand with the arguments of executor.persistent.args"
            raise StartupError([Problem("executor.persistent", reason, remedy)])

    async def close(self) -> None:
        """Give up what waits and runs, end the children; safe to call twice.

        Idle children get `close_grace_s` to end by themselves, all others are killed.
        """
        self._closing = True
        if not self._keepers:
            return
        self._woken.set()
        while (request := self._waiting.pop()) is not None:
            self._tell(request, None)
        for child in list(self._children):
            for request in list(child.in_flight.values()):
                self._tell(request, None)
            child.stop()
        if self._oneshot is not None:
            await self._oneshot.close()
        await outlast(asyncio.ensure_future(asyncio.gather(*self._keepers)))
        self._keepers.clear()
        self._spawning.shutdown()
        self._housekeeping.cancel()
        self._tally.report()

    def statistics(self) -> ExecutorStatistics:
        """How many requests run and wait now, and how many may run at once; callable from any thread."""
        children = tuple(self._children)
        running = sum([len(child.in_flight) for child in children])
        waiting = len(self._waiting)
        slots, ended = self._size * self._per_child, self._ended
        if self._oneshot is not None:
            beside = self._oneshot.statistics()
            running, waiting, ended = running + beside.running, waiting + beside.waiting, ended + beside.ended
        return ExecutorStatistics(running, waiting, slots, ended)

    # --- tasks ----------------------------------------------------------------------------------

    def submit(self, task: ExecutorTask, priority: object, done: Done) -> Running:
        """Take `task` in; `done` hears how it ended, or None when it was given up."""
        now = time.monotonic()
        request = Request(task, priority, done, now, self._cancel)
        if self._closing or not self._keepers:
            request.done = None
            done(None)
        elif task.precomputed is not None:
            request.done = None
            done(precomputed(task))
        elif task.binary_path is not None and task.binary_path != self._config.binary_path:
            self._elsewhere(request, f"the task has a program of its own, {task.binary_path!r}")
        elif not self._waiting and (child := self._roomiest()) is not None:
            self._give(request, child, now)
        elif self._oneshot is not None and self._breaker_state != "closed":
            self._elsewhere(request, "no child can be started: the breaker is open")
        else:
            self._wait(request)
        return request

    def _wait(self, request: Request) -> None:
        try:
            request.ticket = self._waiting.push(request.priority, request)
        except TypeError as exc:
            reason = f"the priority can't be compared: {exc}"
            self._tell(request, failed(request.task, "internal", reason, None, 0.0))

    def _roomiest(self) -> Child | None:
        """The child with the fewest requests, if any has room."""
        found = None
        fewest = 1 << 30
        for child in self._children:
            load = len(child.in_flight)
            if load < fewest and load < child.capacity:
                found, fewest = child, load
        return found

    def _give(self, request: Request, child: Child, now: float) -> None:
        try:
            child.send(request, now)
        except Unspeakable as exc:
            self._elsewhere(request, str(exc))
        else:
            self._tally.started += 1

    def _elsewhere(self, request: Request, why: str) -> None:
        """No child can do it: a process of its own does, or nobody."""
        if self._oneshot is None:
            reason = f"{why}; executor.persistent.fallback_oneshot would run it as a process of its own"
            self._tell(request, failed(request.task, "protocol", reason, None, 0.0))
            return
        self._bus.emit(TaskFellBack(request.task.task_id, why))

        def ended(outcome: Outcome | None) -> None:
            told, request.done = request.done, None
            if told is not None:
                told(outcome)

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
            self._tell(request, None)
            request.child.give_up(request)
        elif request.ticket is not None and self._waiting.cancel(request.ticket):
            self._tell(request, None)

    def _tell(self, request: Request, outcome: Outcome | None) -> None:
        done, request.done = request.done, None
        if done is not None:
            self._ended += 1
            self._tally.note(request, outcome)
            done(outcome)

    # --- children: what they tell ---------------------------------------------------------------

    def ready(self, child: Child) -> None:
        """A child is ready: where others failed before it, it gets one request until it has answered."""
        assert child.conversation is not None
        self._per_child = child.conversation.max_in_flight
        if self._breaker.failures:
            self._probe(child)
        elif not self._warm.done() and sum(child.capacity > 0 for child in self._children) == self._size:
            self._warm.set_result("")
        self._dispatch()

    def _probe(self, child: Child) -> None:
        child.allow(1)
        if self._settings.protocol == "lines":  # it has shown nothing yet
            child.allow(0)
            self._loop.call_later(_EARLY_S, self._try, child)

    def _try(self, child: Child) -> None:
        child.allow(1 if self._breaker.failures else _ANY)
        self._dispatch()

    def settle(self, request: Request, outcome: Outcome) -> None:
        """A request is over."""
        self._tell(request, outcome)

    def turned(self, child: Child) -> None:
        """A child has answered, or has lost what it had."""
        if self._breaker.failures and child.answered:
            self._breaker.succeed(self._tickets.get(child.number))
            for one in self._children if not self._breaker.failures else [child]:
                one.allow(_ANY)
            self._note_breaker("a child has answered")
        self._dispatch()

    def logged(self, child: Child, lines: list[str], more: int) -> None:
        """A child wrote to stderr."""
        self._bus.emit(ChildLogged(child.number, child.pid, tuple(lines), more))

    # --- children: their lives ------------------------------------------------------------------

    async def _keep(self, number: int) -> None:
        fruitless = 0  # lives in a row that failed without an answer
        while (ticket := await self._permission()) is not None:
            self._tickets[number] = ticket
            farewell = await self._one_life(number)
            self._judge(ticket, farewell)
            if farewell.failed and not self._closing:
                fruitless = 0 if farewell.answered else fruitless + 1
                await self._pause(self._backoff.delay_s(fruitless, random.random))

    async def _permission(self) -> int | None:
        """The breaker's ticket to start a child, as soon as there is one; None when the pool closes."""
        while not self._closing:
            now = time.monotonic()
            if (ticket := self._breaker.admit(now)) is not None:
                self._note_breaker("a child is started to see whether it works")
                return ticket
            retry_at = self._breaker.retry_at
            await self._pause(None if retry_at is None else retry_at - now)
        return None

    async def _pause(self, seconds: float | None) -> None:
        """Wait, but not beyond a change of the breaker or the close."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()

    async def _one_life(self, number: int) -> Farewell:
        config = self._config
        try:
            path = find_program(config.binary_path or "", self._environment.variables.get("PATH"))
            path, args = confined(path, self._settings.args, config.limits, config.cwd)
            spawned = await self._loop.run_in_executor(
                self._spawning, spawn, self._spawner, path, args, self._environment
            )
        except (OSError, ValueError) as exc:
            return Farewell(f"child {number} can't be started: {exc}", failed=True)
        child = Child(number, self._settings, self._limits, self)
        self._children.append(child)
        self._bus.emit(ChildStarted(number, spawned.pid))
        child.begin(spawned)
        if self._closing:
            child.stop()
        farewell = await child.ended
        self._children.remove(child)
        lived_s = time.monotonic() - child.born_at
        self._bus.emit(ChildEnded(number, spawned.pid, farewell.reason, farewell.failed, child.sent, lived_s))
        return farewell

    def _judge(self, ticket: int, farewell: Farewell) -> None:
        if not farewell.failed:
            self._breaker.release(ticket)
        else:
            if not self._failure.done():
                self._failure.set_result(farewell.reason)
            self._breaker.fail(ticket, time.monotonic())
        self._note_breaker(farewell.reason)

    def _note_breaker(self, reason: str) -> None:
        state = self._breaker.state
        if state == self._breaker_state:
            return
        self._breaker_state = state
        self._bus.emit(ExecutorBreakerChanged(state, self._breaker.failures, reason))
        self._woken.set()  # every keeper looks again
        if not self._closing:
            self._woken = asyncio.Event()
        if state == "open" and self._oneshot is not None:
            while (request := self._waiting.pop()) is not None:
                self._elsewhere(request, "no child can be started: the breaker is open")

    def _keep_house(self) -> None:
        now = time.monotonic()
        self._housekeeping = self._loop.call_later(_HOUSEKEEPING_S, self._keep_house)
        for child in list(self._children):
            child.recycle_if_due(now)
        patience_s = self._settings.unavailable_after_s
        if patience_s is not None and not any(child.capacity for child in self._children):
            self._fail_waiting(now - patience_s, f"no child was ready for {patience_s:g} s")

    def _fail_waiting(self, since: float, reason: str) -> None:
        young = []
        while (request := self._waiting.pop()) is not None:
            if request.submitted_at > since:
                young.append(request)
            else:
                self._tell(request, failed(request.task, "unavailable", reason, None, 0.0))
        for request in young:
            self._wait(request)
