"""What the pool's tests share: a pool that is watched for anything it leaves behind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import psutil
import pytest

from drakkar_flow.config.sections.executor import ExecutorConfig
from drakkar_flow.executor.base import TaskOutcome, run
from drakkar_flow.executor.oneshot import OneshotExecutor
from drakkar_flow.executor.persistent import child as child_module
from drakkar_flow.executor.persistent import child_supervisor as keepers_module
from drakkar_flow.executor.persistent import pool as pool_module
from drakkar_flow.executor.persistent.pool import PersistentExecutor
from drakkar_flow.model.task import ExecutorError, ExecutorTask
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.executor import (
    ChildEnded,
    ChildLogged,
    ChildStarted,
    ExecutorBreakerChanged,
    HostShortage,
)
from drakkar_flow.observe.events.tasks import TaskFellBack, TaskFinished, TasksCompleted, TasksStarted
from support.children import command

HEARD = (
    ChildStarted,
    ChildEnded,
    ChildLogged,
    ExecutorBreakerChanged,
    HostShortage,
    TaskFellBack,
    TaskFinished,
    TasksCompleted,
    TasksStarted,
)
SWIFT = {"restart_initial_s": 0.001, "restart_max_s": 0.01, "start_timeout_s": 10.0}

Pool = Callable[..., Awaitable[PersistentExecutor]]


@pytest.fixture
async def make_pool(events: list[Event]) -> AsyncIterator[Pool]:
    """Make a started pool of `program`'s children; later no child, zombie, descriptor or thread may be left.

    `executor` holds keys of the section above `executor.persistent`.
    """
    await asyncio.sleep(0)
    us = psutil.Process()
    descriptors, threads = us.num_fds(), set(threading.enumerate())
    made: list[PersistentExecutor] = []

    async def make(program: Sequence[str], executor: dict[str, Any] | None = None, **keys: Any) -> PersistentExecutor:
        above = {"task_timeout_seconds": 20, "max_executors": 1, "kill_grace_s": 0.2} | (executor or {})
        persistent = SWIFT | {"args": list(program[1:])} | keys
        config = ExecutorConfig(binary_path=program[0], persistent=persistent, **above)
        bus = Bus()
        for kind in HEARD:
            bus.listen(kind, events.append)
        pool = PersistentExecutor(config, bus, OneshotExecutor(config, bus) if keys.get("fallback_oneshot") else None)
        made.append(pool)
        await pool.start()
        return pool

    yield make
    for pool in made:
        await pool.close()
    assert us.children() == []
    assert us.num_fds() == descriptors
    assert set(threading.enumerate()) <= threads


@pytest.fixture
def make_worker(make_pool: Pool) -> Pool:
    """Make a pool of the children of tests/support/children.py, by name."""

    async def make(
        name: str, number: float | None = None, framing: str = "json-lines", **keys: Any
    ) -> PersistentExecutor:
        return await make_pool(command(name, framing, number), **keys)

    return make


class Later:
    """Seconds that have passed for a pool and its children though nobody waited for them."""

    def __init__(self) -> None:
        self._passed_s = 0.0

    def monotonic(self) -> float:
        """The time, as the pool sees it."""
        return time.monotonic() + self._passed_s

    def let_pass(self, seconds: float, pool: PersistentExecutor) -> None:
        """Let seconds pass; each child looks at the clock, as its timer would have it do."""
        self._passed_s += seconds
        for child in list(pool.children):
            child.look_at_clock()


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Moves the clock of a pool that is made after this."""
    clock = Later()
    for module in (pool_module, child_module, keepers_module):
        monkeypatch.setattr(module, "time", clock)
    return clock


def task(stdin: str | bytes | None = "x", **fields: Any) -> ExecutorTask:
    """A task with nothing but stdin."""
    return ExecutorTask(**{"task_id": f"t-{stdin!r}", "source_offsets": [1], "stdin": stdin} | fields)


async def run_all(pool: PersistentExecutor, *inputs: str) -> list[TaskOutcome]:
    """Run a task for each input, all at once."""
    return list(await asyncio.gather(*(run(pool, task(stdin)) for stdin in inputs)))


def of(kind: type[Event], events: list[Event]) -> list[Any]:
    """The events of a type."""
    return [event for event in events if type(event) is kind]


def error_of(outcome: TaskOutcome) -> ExecutorError:
    """The error that a task ended with."""
    assert isinstance(outcome, ExecutorError)
    return outcome
