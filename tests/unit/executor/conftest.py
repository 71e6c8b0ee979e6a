"""What the executor's tests share: an executor that is watched for anything it leaves behind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psutil
import pytest

from drakkar_flow.config.sections.executor import ExecutorConfig
from drakkar_flow.executor.oneshot import OneshotExecutor
from drakkar_flow.model.task import ExecutorTask
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.executor import ExecutorBreakerChanged, ExecutorUnguarded, HostShortage
from drakkar_flow.observe.events.tasks import TaskFinished, TasksStarted


@pytest.fixture
def anyio_backend() -> str:
    """The executor lives on asyncio."""
    return "asyncio"


@pytest.fixture
def events() -> list[Event]:
    """The events that the executor emitted, in order."""
    return []


@pytest.fixture
async def make_executor(events: list[Event]) -> AsyncIterator[Callable[..., Awaitable[OneshotExecutor]]]:
    """Make started executors; afterwards no child, no zombie, no descriptor and no thread of theirs may be left."""
    await asyncio.sleep(0)
    us = psutil.Process()
    descriptors, threads = us.num_fds(), set(threading.enumerate())
    made: list[OneshotExecutor] = []

    async def make(**config: Any) -> OneshotExecutor:
        bus = Bus()
        bus.listen(TasksStarted, events.append)
        bus.listen(TaskFinished, events.append)
        bus.listen(HostShortage, events.append)
        bus.listen(ExecutorBreakerChanged, events.append)
        bus.listen(ExecutorUnguarded, events.append)
        executor = OneshotExecutor(ExecutorConfig(**{"kill_grace_s": 0.5, "task_timeout_seconds": 20} | config), bus)
        await executor.start()
        made.append(executor)
        return executor

    yield make
    for executor in made:
        await executor.close()
    assert us.children() == []
    assert us.num_fds() == descriptors
    assert set(threading.enumerate()) <= threads


@pytest.fixture
def sh() -> Callable[..., ExecutorTask]:
    """Make a task that runs a shell script."""

    def make(script: str, **fields: Any) -> ExecutorTask:
        return ExecutorTask(
            **{"task_id": "t-1", "source_offsets": [1], "binary_path": "/bin/sh", "args": ["-c", script]} | fields
        )

    return make


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Wait until a condition holds; fails after ten seconds."""

    async def wait(condition: Callable[[], object], what: str = "the condition") -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not come true"
            await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def is_alive() -> Callable[[int], bool]:
    """Whether a process runs (a zombie does not)."""

    def alive(pid: int) -> bool:
        try:
            return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    return alive
