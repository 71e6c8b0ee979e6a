"""The thread pool behind `offload`: bounded, in order, and never in the way."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest

from drakkar_flow.engine.offload import OffloadPool, threads_for
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.executor import HostShortage
from drakkar_flow.observe.events.hooks import Offloaded

pytestmark = pytest.mark.anyio

NAME = "drakkar-offload"


@pytest.fixture
def anyio_backend() -> str:
    """The loop the runtime runs on."""
    return "asyncio"


class Held:
    """A function that says when it runs and ends when it is let go."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> str:
        """Block this thread."""
        self.started.set()
        assert self.go.wait(30)
        return threading.current_thread().name


async def until(condition: Callable[[], Any]) -> None:
    """Give other threads time until a condition holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - other threads can't set an event of this loop
            await asyncio.sleep(0.001)


def pool_of(size: int) -> tuple[OffloadPool, list[Offloaded]]:
    """A pool with a bus that notes what ran."""
    bus = Bus()
    events: list[Offloaded] = []
    bus.listen(Offloaded, events.append)
    return OffloadPool(size, bus), events


async def test_a_function_runs_on_a_thread_of_the_pool_with_its_callers_context() -> None:
    """Its result comes back, what it raises is raised, each call is told; a thread that is free is used again."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("v")
    variable.set("mine")
    before = set(threading.enumerate())
    pool, events = pool_of(2)
    seen = await pool.run("arrange", lambda: (variable.get(), threading.current_thread().name))
    assert seen == ("mine", NAME)
    for error in (KeyError("k"), StopIteration()):

        def fail(error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error) if isinstance(error, KeyError) else RuntimeError):
            await pool.run("arrange", fail)
    assert [event.hook for event in events] == ["arrange"] * 3
    assert len({thread for thread in threading.enumerate() if thread.name == NAME} - before) == 1
    assert await pool.close(1.0) == 0


async def test_no_more_calls_run_at_once_than_there_are_threads() -> None:
    """The others wait in their order, and are counted."""
    pool, _ = pool_of(2)
    held = [Held() for _ in range(4)]
    calls = [asyncio.create_task(pool.run("h", each)) for each in held]
    await until(lambda: pool.running == 2 and pool.queued == 2 and held[1].started.is_set())
    assert not held[2].started.is_set()
    held[0].go.set()
    await until(held[2].started.is_set)
    assert (pool.running, pool.queued) == (2, 1)
    for each in held:
        each.go.set()
    assert await asyncio.gather(*calls) == [NAME] * 4
    assert (pool.running, pool.queued) == (0, 0)
    await pool.close(1.0)


async def test_a_call_cancelled_while_it_waits_never_runs_and_frees_nothing_twice() -> None:
    """One cancelled while it runs keeps its thread until it ends: the bound holds."""
    pool, _ = pool_of(1)
    first, second, third = Held(), Held(), Held()
    running = asyncio.create_task(pool.run("h", first))
    await until(first.started.is_set)
    waiting = asyncio.create_task(pool.run("h", second))
    await until(lambda: pool.queued == 1)
    waiting.cancel()
    running.cancel()
    await asyncio.gather(waiting, running, return_exceptions=True)
    last = asyncio.create_task(pool.run("h", third))
    await until(lambda: pool.queued == 1)
    assert (pool.running, third.started.is_set()) == (1, False)
    first.go.set()
    third.go.set()
    assert await last == NAME
    assert not second.started.is_set()
    await pool.close(1.0)


async def test_closing_waits_for_what_runs_within_its_budget_and_refuses_what_comes() -> None:
    """What does not end is told, and its thread keeps no process alive."""
    pool, _ = pool_of(2)
    quick, endless = Held(), Held()
    quick.go.set()
    calls = [asyncio.create_task(pool.run("h", each)) for each in (quick, endless)]
    await until(endless.started.is_set)
    assert await pool.close(0.01) == 1
    with pytest.raises(RuntimeError, match="offload is closed"):
        await pool.run("h", quick)
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == NAME)
    endless.go.set()
    await asyncio.gather(*calls)
    await until(lambda: not any(thread.name == NAME for thread in threading.enumerate()))


@pytest.mark.parametrize(
    ("max_threads", "max_executors", "threads"), [(0, 1, 2), (0, 9, 3), (0, 1000, 32), (7, 1000, 7), (1, 4, 1)]
)
def test_the_pool_has_the_size_of_the_configuration(max_threads: int, max_executors: int, threads: int) -> None:
    """0 goes by the executor."""
    assert threads_for(max_threads, max_executors) == threads


async def test_f3_calls_wait_for_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host has none left: the call waits, it is told, and the pool stays whole."""
    bus, told = Bus(), list[HostShortage]()
    bus.listen(HostShortage, told.append)
    pool = OffloadPool(2, bus)

    def refuse(_thread: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread.start", refuse)
        first = asyncio.ensure_future(pool.run("hook", lambda: 1))
        await until(lambda: told)
        assert not first.done()
    assert await first == 1
    assert await pool.run("hook", lambda: 2) == 2
    assert (told[0].part, told[0].lacks) == ("offload", "processes")
    assert await pool.close(5) == 0
