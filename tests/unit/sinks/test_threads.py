"""Blocking work of sinks, and those who are cancelled while it runs."""

from __future__ import annotations

import asyncio
import threading

import anyio
import pytest

from drakkar_flow.sinks.threads import in_thread, to_completion

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The loop that sinks live on."""
    return "asyncio"


async def test_who_is_cancelled_waits_for_the_thread_so_that_no_other_runs_beside_it() -> None:
    """The cancellation is heeded when the thread has returned, not before."""
    begun, may_end = threading.Event(), threading.Event()
    limiter = anyio.CapacityLimiter(1)

    def work() -> None:
        begun.set()
        may_end.wait(10)

    call = asyncio.ensure_future(in_thread(work, limiter=limiter))
    while not begun.is_set():  # noqa: ASYNC110 - another thread sets it
        await asyncio.sleep(0)
    call.cancel()
    done, _ = await asyncio.wait({call}, timeout=0.05)
    assert not done
    assert limiter.borrowed_tokens == 1
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert limiter.borrowed_tokens == 0


async def test_what_the_work_returns_or_raises_is_the_callers() -> None:
    """As if it had been called."""
    limiter = anyio.CapacityLimiter(1)
    assert await in_thread(divmod, 7, 2, limiter=limiter) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0, limiter=limiter)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_work_that_is_cancelled_again_and_again_has_ended_when_the_cancellation_arrives(times: int) -> None:
    """A write that went on would run beside the next one."""

    async def cancelled() -> tuple[bool, bool]:
        work = asyncio.get_running_loop().create_future()
        waiting = asyncio.create_task(to_completion(work))
        await asyncio.sleep(0)
        for _ in range(times):
            waiting.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        early = waiting.done()
        work.set_result(None)
        await asyncio.wait({waiting})
        return early, waiting.cancelled()

    assert asyncio.run(cancelled()) == (False, True)
