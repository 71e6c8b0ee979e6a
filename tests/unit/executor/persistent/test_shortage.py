"""Long-lived children on a host that lacks descriptors."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from drakkar_flow.errors import StartupError
from drakkar_flow.executor.base import TaskOutcome, run
from drakkar_flow.executor.persistent import child_supervisor
from drakkar_flow.model.task import ExecutorResult, ExecutorTask
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.executor import ChildEnded, ExecutorBreakerChanged, HostShortage
from drakkar_flow.testing.conformance.limits import few_descriptors
from support.children import command
from support.processes import programs

pytestmark = pytest.mark.anyio

MakePool = Callable[..., Awaitable[Any]]
Until = Callable[..., Awaitable[None]]


def task(text: str) -> ExecutorTask:
    """A task that is echoed."""
    return ExecutorTask(task_id=text, source_offsets=[1], stdin=text)


def text_of(outcome: TaskOutcome) -> str:
    """What came back."""
    assert isinstance(outcome, ExecutorResult), outcome
    return outcome.stdout


async def test_f3_a_child_is_replaced_when_there_are_descriptors(
    make_pool: MakePool, events: list[Event], until: Until
) -> None:
    """Until then tasks wait; it is no failure of the program."""
    pool = await make_pool(command("good"))
    assert text_of(await run(pool, task("a"))) == "a"
    [child] = programs()
    with few_descriptors(left=0):
        os.kill(child.pid, signal.SIGKILL)
        await until(lambda: any(isinstance(event, ChildEnded) for event in events), "its end")
        held = asyncio.ensure_future(run(pool, task("b")))
        await until(lambda: [e.over for e in events if isinstance(e, HostShortage)] == [False], "the shortage")
        assert not held.done()
    assert text_of(await held) == "b"
    assert not [event for event in events if isinstance(event, ExecutorBreakerChanged)]


async def test_f3_a_start_without_descriptors_fails_with_the_reason(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `start_timeout_s`, in which it is tried again; the limit can't be raised."""
    monkeypatch.setattr(child_supervisor, "provide_for", lambda _owner, _slots: [])
    with few_descriptors(left=1), pytest.raises(StartupError, match="Too many open files"):
        await make_pool(command("good"), start_timeout_s=0.5)
