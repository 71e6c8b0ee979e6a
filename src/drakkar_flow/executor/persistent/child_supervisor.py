"""Child supervisor: one keeper per child starts it, waits for its end, and starts it again when allowed."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count

from drakkar_flow.config.sections.executor import ProgramConfig
from drakkar_flow.executor.base import wait_shielded
from drakkar_flow.executor.environment import base_environment, find_program, forget_programs
from drakkar_flow.executor.host_limits import programs_soft_limit, provide_for, release
from drakkar_flow.executor.host_watch import HostWatch
from drakkar_flow.executor.persistent.child import Child, ChildExit, ChildLimits, Owner
from drakkar_flow.executor.persistent.process import Spawned, spawn
from drakkar_flow.executor.reaper_client import Reaper
from drakkar_flow.executor.rlimits import confined
from drakkar_flow.executor.spawn import Environment, Spawner
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.kernel.breaker import Breaker, BreakerState
from drakkar_flow.kernel.shortage import shortage_of
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.executor import ChildEnded, ChildStarted, ExecutorBreakerChanged, HostLimitLow

__all__ = ["ChildSupervisor"]

_EARLY_S = 0.1  # a filter sends nothing at its start; a broken one has ended by then
_ANY = 1 << 30
_SHORTAGE = Backoff(initial_s=0.05, max_s=2.0)  # pauses during a shortage of the host


class ChildSupervisor:
    """Owns the children, `size` of them, and the breaker.

    A failed child is started again after a pause that grows with each run in a row without an answer.
    While the breaker is open only a probe is started. `on_open` is called when the breaker opens.
    """

    def __init__(self, config: ProgramConfig, bus: Bus, owner: Owner, on_open: Callable[[], None]) -> None:
        self.size = config.persistent.children or config.max_executors
        self.children: list[Child] = []
        self.state: BreakerState = "closed"
        self._config = config
        self._settings = settings = config.persistent
        self._bus = bus
        self._guard = Reaper(bus)
        self._owner = owner
        self._on_open = on_open
        caps = (config.max_stdout_bytes, config.max_stderr_bytes)
        self._limits = ChildLimits(
            config.task_timeout_seconds, config.kill_grace_s, caps, config.limits, config.success_codes
        )
        self._backoff = Backoff(settings.restart_initial_s, settings.restart_max_s)
        self._breaker = Breaker(settings.breaker_failures, settings.breaker_cooldown_s)
        self._tickets: dict[int, int] = {}  # of the breaker, by child
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False

    # --- life -----------------------------------------------------------------------------------

    async def start(self) -> str | None:
        """Start every child and wait until all are ready; returns the reason if one of them failed before."""
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._failure: asyncio.Future[str] = self._loop.create_future()
        self._warm: asyncio.Future[str] = self._loop.create_future()
        self._environment = Environment(base_environment(self._config, os.environ, self._guard.variables))
        self._spawner = Spawner(self._config.cwd)
        self._spawning = ThreadPoolExecutor(1, thread_name_prefix="spawn")
        self._guard.start()
        for shortfall in provide_for(self, self.size):
            self._bus.emit(HostLimitLow(*shortfall[:3], self.size))
        self._watch = HostWatch(self._bus, "children")
        self._soft_files = programs_soft_limit()
        self._tasks = [self._loop.create_task(self._keep(number)) for number in range(self.size)]
        await asyncio.wait([self._warm, self._failure], return_when=asyncio.FIRST_COMPLETED)
        if not self._failure.done() and self._settings.protocol == "lines":
            await asyncio.wait([self._failure], timeout=_EARLY_S)
        return self._failure.result() if self._failure.done() else None

    async def close(self) -> None:
        """End every child; an idle one gets `close_grace_s` to exit, any other is killed."""
        if not self._tasks:
            return
        self._closing = True
        self._woken.set()
        for child in list(self.children):
            child.stop()
        await wait_shielded(asyncio.ensure_future(asyncio.gather(*self._tasks)))
        self._tasks.clear()
        self._spawning.shutdown()
        self._guard.close()
        self._watch.close()
        release(self)

    # --- called by the pool ---------------------------------------------------------------------

    def ready(self, child: Child) -> None:
        """React to a ready child: after failures of others it gets one request until it has answered."""
        if self._breaker.failures:
            child.allow(1)
            if self._settings.protocol == "lines":  # it has not answered yet
                child.allow(0)
                self._loop.call_later(_EARLY_S, self._try, child)
        elif not self._warm.done() and self._ready == self.size:
            self._warm.set_result("")

    @property
    def _ready(self) -> int:
        return sum(child.capacity > 0 for child in self.children)

    def answered(self, child: Child) -> None:
        """React to an answer: children after a failure have proved that they work."""
        if self._breaker.failures:
            self._breaker.succeed(self._tickets.get(child.number))
            for one in [child] if self._breaker.failures else self.children:
                one.allow(_ANY)
            self._note_breaker("a child has answered")

    def recycle(self, now: float) -> None:
        """Replace children that are too old or too large, one after the other, so that the others do their work."""
        for child in self.children:
            if self._ready < self.size:
                return
            child.recycle_if_due(now)

    def _try(self, child: Child) -> None:
        child.allow(1 if self._breaker.failures else _ANY)
        self._owner.turned(child)

    # --- lives ----------------------------------------------------------------------------------

    async def _keep(self, number: int) -> None:
        fruitless = 0  # runs in a row that failed without an answer
        share = (number + 1) / self.size  # first lives differ in length, else all would be replaced at the same time
        while (ticket := await self._permission()) is not None:
            self._tickets[number] = ticket
            child_exit = await self._one_life(number, share)
            share = 1.0
            self._judge(ticket, child_exit)
            if child_exit.failed and not self._closing:
                fruitless = 0 if child_exit.answered else fruitless + 1
                await self._pause(self._backoff.delay_s(fruitless, random.random))

    async def _permission(self) -> int | None:
        """Wait for the breaker's ticket to start a child; None if the pool closes."""
        while not self._closing:
            now = time.monotonic()
            if (ticket := self._breaker.admit(now)) is not None:
                self._note_breaker("a child is started to see whether it works")
                return ticket
            retry_at = self._breaker.retry_at
            await self._pause(None if retry_at is None else retry_at - now)
        return None

    async def _pause(self, seconds: float | None) -> None:
        """Wait, at most until a change of the breaker or the close."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()

    async def _one_life(self, number: int, share: float) -> ChildExit:
        try:
            spawned = await self._spawn_within_means()
        except (OSError, ValueError, RuntimeError) as exc:
            forget_programs()
            return ChildExit(f"child {number} can't be started: {exc}", failed=True)
        if spawned is None:
            return ChildExit(f"child {number} was not started: the executor closed", failed=False)
        child = Child(number, self._settings, self._limits, self._owner, share)
        self.children.append(child)
        self._bus.emit(ChildStarted(number, spawned.pid))
        child.begin(spawned)
        if self._closing:
            child.stop()
        child_exit = await child.ended
        self.children.remove(child)
        lived_s = time.monotonic() - child.born_at
        self._bus.emit(ChildEnded(number, spawned.pid, child_exit.reason, child_exit.failed, child.sent, lived_s))
        return child_exit

    async def _spawn_within_means(self) -> Spawned | None:
        """Start a program, during a shortage as soon as possible; None if the pool closes before.

        At the start of the flow it is tried for `start_timeout_s`.
        """
        until = self._loop.time() + self._settings.start_timeout_s
        for attempt in count(1):
            try:
                return await self._spawn()
            except (OSError, RuntimeError) as exc:
                lacks = shortage_of(exc)
                if not lacks or (not self._warm.done() and self._loop.time() >= until):
                    raise
                self._watch.report(lacks, str(exc))
            await self._pause(_SHORTAGE.delay_s(attempt, random.random))
            if self._closing:
                break
        return None

    async def _spawn(self) -> Spawned:
        config, environment = self._config, self._environment
        path = find_program(config.binary_path or "", environment.variables.get("PATH"))
        path, args = confined(path, self._settings.args, config.limits, config.cwd, self._soft_files)
        return await self._loop.run_in_executor(self._spawning, spawn, self._spawner, path, args, environment)

    def _judge(self, ticket: int, child_exit: ChildExit) -> None:
        if not child_exit.failed:
            self._breaker.release(ticket)
        else:
            if not self._failure.done():
                self._failure.set_result(child_exit.reason)
            self._breaker.fail(ticket, time.monotonic())
        self._note_breaker(child_exit.reason)

    def _note_breaker(self, reason: str) -> None:
        state = self._breaker.state
        if state == self.state:
            return
        self.state = state
        self._bus.emit(ExecutorBreakerChanged(state, self._breaker.failures, reason))
        if not self._closing:
            self._woken.set()  # every keeper looks again
            self._woken = asyncio.Event()
        if state == "open":
            self._on_open()
