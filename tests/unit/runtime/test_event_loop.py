"""The bridge and the calls on it: one loop, owned from open to close, and users' functions run there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.runtime.hook_calls import HookCalls


@pytest.fixture
def loop_thread() -> Iterator[EventLoopThread]:
    """An open bridge."""
    loop_thread = EventLoopThread()
    loop_thread.open()
    yield loop_thread
    loop_thread.close()


async def thread_name() -> str:
    """Where it runs."""
    return threading.current_thread().name


def test_coroutines_run_on_the_bridges_thread(loop_thread: EventLoopThread) -> None:
    """run waits for the result, start gives a future."""
    assert loop_thread.run(thread_name()) == "drakkar-loop"
    assert loop_thread.start(thread_name()).result(20) == "drakkar-loop"


def test_posted_functions_run_in_order_on_the_loop(loop_thread: EventLoopThread) -> None:
    """post returns at once; what was posted first runs first."""
    seen: list[int] = []
    for n in range(100):
        loop_thread.post(seen.append, n)
    loop_thread.run(asyncio.sleep(0))
    assert seen == list(range(100))


def test_an_exception_comes_back_to_who_waits(loop_thread: EventLoopThread) -> None:
    """run raises what the coroutine raised."""

    async def broken() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        loop_thread.run(broken())


def test_what_takes_too_long_is_cancelled(loop_thread: EventLoopThread) -> None:
    """run gives up after its time and the coroutine learns of it."""
    cancelled = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError):
        loop_thread.run(hang(), timeout_s=0.01)
    assert cancelled.wait(20)


def test_closing_cancels_what_runs_and_ends_the_thread() -> None:
    """Nothing is left behind; closing twice is harmless, and so is posting afterwards."""
    loop_thread = EventLoopThread()
    loop_thread.open()
    cancelled = threading.Event()
    started = threading.Event()

    async def hang() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    future = loop_thread.start(hang())
    assert started.wait(20)
    loop_thread.close()
    assert cancelled.is_set()
    assert future.cancelled()
    assert not loop_thread._thread.is_alive()
    loop_thread.close()
    loop_thread.post(lambda: 1 / 0)


def test_a_bridge_that_is_not_open_refuses_coroutines() -> None:
    """Without a warning about a coroutine nobody awaited; closing it is harmless."""
    loop_thread = EventLoopThread()
    with pytest.raises(RuntimeError, match="not open"):
        loop_thread.start(thread_name())
    with pytest.raises(RuntimeError, match="not open"):
        loop_thread.run(thread_name())
    loop_thread.close()


class Awaitable:
    """Can be awaited and is no coroutine."""

    def __await__(self) -> Generator[None, None, str]:
        yield from asyncio.sleep(0).__await__()
        return "awaited"


async def at_once() -> str:
    """No waiting."""
    return "value"


async def later() -> str:
    """Some waiting."""
    await asyncio.sleep(0)
    return "value"


def plain() -> str:
    """No coroutine at all."""
    return "value"


def raising() -> str:
    """An error."""
    raise ValueError("no")


async def raising_later() -> str:
    """An error after some waiting."""
    await asyncio.sleep(0)
    raise ValueError("no")


@pytest.mark.parametrize(
    ("function", "expected", "inline"),
    [
        (plain, "value", True),
        (raising, "no", True),
        (later, "value", False),
        (raising_later, "no", False),
        (Awaitable, "awaited", False),
        (at_once, "value", None),
    ],
)
def test_a_call_answers_once_with_a_value_or_an_error(
    loop_thread: EventLoopThread, function: Callable[..., Any] | type[Awaitable], expected: str, inline: bool | None
) -> None:
    """Plain functions answer inside the call; what waits answers later; errors are values."""

    async def run() -> tuple[list[Any], bool]:
        answers: list[Any] = []
        answered = asyncio.Event()
        calls = HookCalls(loop_thread)

        def done(value: Any, error: BaseException | None) -> None:
            answers.append(str(error) if error else value)
            answered.set()

        calls.call(function, (), done)
        at_once = bool(answers)
        await answered.wait()
        await asyncio.sleep(0)
        assert not calls._tasks
        return answers, at_once

    answers, at_once = loop_thread.run(run(), 20)
    assert answers == [expected]
    assert inline is None or at_once is inline


def test_cancelled_calls_answer_with_the_cancellation(loop_thread: EventLoopThread) -> None:
    """Somebody cancels what waits: it has ended, with an error."""

    async def run() -> list[Any]:
        answers: list[Any] = []
        calls = HookCalls(loop_thread)
        for _ in range(2):
            calls.call(asyncio.Event().wait, (), lambda value, error: answers.append(type(error)))
        await asyncio.sleep(0)
        for task in tuple(calls._tasks):
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return answers

    assert loop_thread.run(run(), 20) == [asyncio.CancelledError] * 2
