"""What nobody expects in a hook, a listener or the library itself ends the flow visibly instead of hanging it."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import suppress
from typing import Any

import pytest

from drakkar_flow import ExecutorTask, PrecomputedResult, StreamFlow
from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.runtime.hook_calls import HookCalls
from drakkar_flow.runtime.steps.step import AsyncStep
from drakkar_flow.testing import ScriptedExecutor, run_flow
from support.steps import Alone, context_of
from support.until import until


class Broken(AsyncStep[Any, Any]):
    """A step with a bug."""

    def accept(self, items: list[Any]) -> None:
        raise LookupError(items[0])


class Bugs:
    """Keeps what a bridge reports."""

    def __init__(self) -> None:
        self.seen: list[BaseException] = []
        self.loop_thread = EventLoopThread(self.seen.append)


@pytest.fixture
def bugs() -> Any:
    """An open bridge and what it reports."""
    bugs = Bugs()
    bugs.loop_thread.open()
    yield bugs
    bugs.loop_thread.close()


def test_a_step_that_raises_is_reported(bugs: Bugs) -> None:
    """An exception in `accept` reaches whoever can stop the flow."""
    context = context_of(loop_thread=bugs.loop_thread)
    Alone(Broken(context, "broken"), context).put("item")
    until(lambda: bugs.seen)
    assert isinstance(bugs.seen[0], LookupError)


@pytest.mark.parametrize("waits", [False, True])
def test_a_callback_that_raises_is_reported(bugs: Bugs, waits: bool) -> None:
    """An exception after a call ended is not swallowed by the loop, whether the call waited or not."""

    async def hook() -> None:
        if waits:
            await asyncio.sleep(0)

    def done(_value: Any, _error: BaseException | None) -> None:
        raise LookupError

    bugs.loop_thread.post(lambda: HookCalls(bugs.loop_thread).call(hook, (), done))
    until(lambda: bugs.seen)
    assert isinstance(bugs.seen[0], LookupError)


def test_work_of_ours_that_raises_is_reported(bugs: Bugs) -> None:
    """A coroutine of the library that raises is a bug, not an ending."""
    ended = threading.Event()

    async def work() -> None:
        raise LookupError

    bugs.loop_thread.post(lambda: HookCalls(bugs.loop_thread).run(work(), ended.set))
    until(lambda: bugs.seen)
    assert isinstance(bugs.seen[0], LookupError)
    assert not ended.is_set()


def test_a_loop_that_ends_by_itself_is_reported(bugs: Bugs) -> None:
    """A hook that calls sys.exit() ends the loop; nothing posted later raises or hangs."""

    def leave() -> None:
        raise SystemExit(3)

    bugs.loop_thread.post(leave)
    until(lambda: bugs.seen and bugs.loop_thread.closed)
    assert isinstance(bugs.seen[0], SystemExit)
    bugs.loop_thread.post(leave)
    assert bugs.loop_thread.close()


def test_a_closing_bridge_starts_no_further_calls() -> None:
    """What waits behind cancelled calls is not begun on the way out."""
    loop_thread = EventLoopThread()
    loop_thread.open()
    calls = HookCalls(loop_thread)
    called: list[int] = []
    waiting = threading.Event()

    async def wait(number: int) -> None:
        called.append(number)
        waiting.set()
        await asyncio.sleep(60)

    def next_one(_value: Any, _error: BaseException | None) -> None:
        calls.call(wait, (2,), next_one)

    loop_thread.post(lambda: calls.call(wait, (1,), next_one))
    assert waiting.wait(10)
    loop_thread.close()
    assert called == [1]


def test_a_bridge_that_can_not_end_says_so() -> None:
    """A hook that ignores its cancellation does not keep `close` for ever."""
    loop_thread = EventLoopThread()
    loop_thread.open()
    release = threading.Event()

    async def stubborn() -> None:
        while not release.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    future = loop_thread.start(stubborn())
    assert not loop_thread.close(timeout_s=0.1)
    release.set()
    until(future.done)


def test_a_task_that_is_always_replaced_ends() -> None:
    """Replacements that only fail and are only replaced come to an end, and the record is skipped."""
    made = 0

    def arrange(records: list[Any], _pending: Any) -> list[ExecutorTask]:
        return [ExecutorTask(task_id="t", source_offsets=[record.offset]) for record in records]

    def again(task: ExecutorTask, _error: Any) -> list[ExecutorTask]:
        nonlocal made
        made += 1
        given = PrecomputedResult(exit_code=1) if made % 2 else None
        return [ExecutorTask(task_id=f"t{made}", source_offsets=task.source_offsets, precomputed=given)]

    flow = StreamFlow("replace").decode(int).arrange(arrange).execute(on_error=again).collect().route()
    outcome = run_flow(flow, [1], executor=ScriptedExecutor(lambda _task: 1))
    assert outcome.committed == {("input", 0): 1}
    assert 10 < made < 1000


def test_precomputed_replacements_do_not_exhaust_the_stack() -> None:
    """A chain of replacements that never wait is not deeper than Python allows."""

    def arrange(records: list[Any], _pending: Any) -> list[ExecutorTask]:
        return [failing(record.offset) for record in records]

    def failing(offset: int) -> ExecutorTask:
        return ExecutorTask(task_id="t", source_offsets=[offset], precomputed=PrecomputedResult(exit_code=1))

    async def again(task: ExecutorTask, _error: Any) -> list[ExecutorTask]:
        return [failing(task.source_offsets[0])]

    flow = StreamFlow("replace").decode(int).arrange(arrange).execute(on_error=again).collect().route()
    assert run_flow(flow, [1, 2]).committed == {("input", 0): 2}


def test_work_that_is_cancelled_by_the_end_of_the_loop_is_not_told_as_ended() -> None:
    """A loop that ends by itself takes hooks with it; a hook that was cancelled so has answered nothing."""
    seen: list[BaseException] = []
    loop_thread = EventLoopThread(seen.append)
    loop_thread.open()
    told: list[object] = []
    waiting = threading.Event()

    async def wait() -> None:
        waiting.set()
        await asyncio.sleep(60)

    loop_thread.post(lambda: HookCalls(loop_thread).call(wait, (), lambda *answer: told.append(answer)))
    assert waiting.wait(10)
    loop_thread.post(sys.exit, 3)
    until(lambda: seen)
    assert loop_thread.close()
    assert told == []
