"""Giving tasks up: one by one, or all when the executor closes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import psutil
import pytest

from drakkar_flow.errors import ExecutorClosed
from drakkar_flow.executor.base import Done, Running, TaskOutcome, run
from drakkar_flow.executor.oneshot import OneshotExecutor
from drakkar_flow.model.task import ExecutorResult, ExecutorTask
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.tasks import TaskFinished, TasksStarted
from support.processes import programs, slots
from support.until import until as blocking_until

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[OneshotExecutor]]
Sh = Callable[..., ExecutorTask]
Until = Callable[..., Awaitable[None]]
Alive = Callable[[int], bool]


def block_until_ended(running: Running) -> None:
    """Hold up the loop, which would tell the caller, until the program has ended."""
    blocking_until(lambda: running.state() == "has ended")


async def test_cancelling_kills_the_group_and_frees_the_slot_first(
    make_executor: Make, sh: Sh, until: Until, is_alive: Alive, tmp_path: Path
) -> None:
    """When CancelledError comes out, the program is reaped, its children are dying and the slot is free."""
    executor = await make_executor(max_executors=1)
    pids = tmp_path / "pids"
    call = asyncio.create_task(run(executor, sh(f"trap '' TERM; sleep 60 & echo $$ $! > {pids}; wait")))
    await until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    leader, child = map(int, pids.read_text().split())
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not psutil.pid_exists(leader)
    assert executor.statistics().running == 0
    await until(lambda: not is_alive(child))


async def test_cancelling_again_does_not_leave_the_program_behind(make_executor: Make, sh: Sh, until: Until) -> None:
    """An impatient caller that cancels over and over still gets a reaped program."""
    executor = await make_executor(max_executors=1)
    call = asyncio.create_task(run(executor, sh("sleep 60")))
    await until(lambda: executor.statistics().running == 1)
    while not call.done():
        call.cancel()
        await asyncio.sleep(0)
    assert call.cancelled()
    assert programs() == []


async def test_a_cancel_scope_cancels_like_a_cancel(make_executor: Make, sh: Sh) -> None:
    """A structured cancel scope ends the program and goes on."""
    executor = await make_executor()
    with anyio.move_on_after(0.1) as scope:
        await run(executor, sh("sleep 60"))
    assert scope.cancelled_caught
    assert executor.statistics().running == 0


async def test_a_call_cancelled_before_its_thread_took_it_runs_nothing(
    make_executor: Make, sh: Sh, tmp_path: Path, events: list[Event]
) -> None:
    """Cancelled in the turn it was made, a task is over with one event of each kind."""
    executor = await make_executor()
    call = asyncio.create_task(run(executor, sh(f"sleep 0.2; touch {tmp_path}/ran")))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    started, finished = events
    assert isinstance(started, TasksStarted)
    assert isinstance(finished, TaskFinished)
    assert finished.status == "cancelled"
    assert not (tmp_path / "ran").exists()


class CancelledInTime:
    """An executor whose callers are cancelled in the turn in which they hear of their outcome."""

    def __init__(self, executor: OneshotExecutor) -> None:
        self.executor = executor
        self.calls: list[asyncio.Task[TaskOutcome]] = []

    def submit(self, task: ExecutorTask, priority: object, done: Done) -> Running:
        def heard(outcome: TaskOutcome | None) -> None:
            done(outcome)
            self.calls[-1].cancel()

        return self.executor.submit(task, priority, heard)


async def test_a_cancel_that_comes_too_late_is_still_a_cancel(make_executor: Make, sh: Sh) -> None:
    """When the outcome and the cancellation meet in one turn, the call is cancelled and nothing hangs."""
    hasty = CancelledInTime(await make_executor())
    for _ in range(20):
        hasty.calls.append(asyncio.create_task(run(hasty, sh("true"))))  # type: ignore[arg-type]  # a fake of what is used
        await asyncio.wait(hasty.calls)
    assert all(call.cancelled() for call in hasty.calls)
    assert hasty.executor.statistics()[:2] == (0, 0)


async def test_d28_a_cancelled_waiter_leaks_no_slot(make_executor: Make, sh: Sh, until: Until) -> None:
    """D-28: a task given up in the queue never takes a slot, nobody waits any more, and the next one runs."""
    executor = await make_executor(max_executors=1)
    heard: list[tuple[str, TaskOutcome | None]] = []

    def submit(name: str, script: str) -> Running:
        return executor.submit(sh(script), 0, lambda outcome: heard.append((name, outcome)))

    first = submit("first", "sleep 60")
    await until(lambda: executor.statistics()[:2] == (1, 0))
    waiter = submit("waiter", "true")
    assert executor.statistics()[:2] == (1, 1)
    waiter.cancel()
    assert heard == [("waiter", None)]
    assert executor.statistics()[:2] == (1, 0)
    first.cancel()
    first.cancel()
    await until(lambda: len(heard) == 2, "the end of the killed program")
    assert heard[1] == ("first", None)
    submit("last", "true")
    await until(lambda: len(heard) == 3, "the end of the last program")
    assert isinstance(heard[2][1], ExecutorResult)
    assert executor.statistics()[:3] == (0, 0, 1)


async def test_a_task_given_up_twice_while_it_is_killed_did_not_fail(make_executor: Make, sh: Sh, until: Until) -> None:
    """A close that finds a program already killed by its caller does not take its death for an outcome."""
    executor = await make_executor(max_executors=1)
    heard: list[TaskOutcome | None] = []
    running = executor.submit(sh("sleep 60"), 0, heard.append)
    await until(lambda: executor.statistics().running == 1)
    running.cancel()
    block_until_ended(running)
    running.cancel()
    await until(lambda: heard)
    assert heard == [None]


async def test_close_gives_up_what_runs_and_what_waits(
    make_executor: Make, sh: Sh, until: Until, events: list[Event]
) -> None:
    """A task killed by the close did not fail: its caller gets ExecutorClosed, not an error value."""
    executor = await make_executor(max_executors=2)
    calls = [asyncio.create_task(run(executor, sh("sleep 60"))) for _ in range(5)]
    await until(lambda: executor.statistics()[:2] == (2, 3))
    await executor.close()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ExecutorClosed] * 5
    assert programs() == []
    assert executor.statistics()[:2] == (0, 0)
    assert [event.status for event in events if isinstance(event, TaskFinished)] == ["cancelled"] * 5


async def test_an_outcome_that_was_there_before_the_close_counts(make_executor: Make, sh: Sh) -> None:
    """A program that ended by itself is not given up, though its caller had not heard of it yet."""
    executor = await make_executor()
    heard: list[TaskOutcome | None] = []
    block_until_ended(executor.submit(sh("echo done"), 0, heard.append))
    assert heard == []
    await executor.close()
    (outcome,) = heard
    assert isinstance(outcome, ExecutorResult)
    assert outcome.stdout == "done\n"


async def test_a_closed_executor_takes_no_tasks(make_executor: Make, sh: Sh) -> None:
    """Closing twice is safe; running afterwards is refused."""
    executor = await make_executor()
    await executor.close()
    await executor.close()
    with pytest.raises(ExecutorClosed):
        await run(executor, sh("true"))


async def test_closing_twice_at_once_is_safe(make_executor: Make, sh: Sh, until: Until) -> None:
    """Two that close together both come back when all is over."""
    executor = await make_executor()
    call = asyncio.create_task(run(executor, sh("sleep 60")))
    await until(lambda: executor.statistics().running == 1)
    await asyncio.gather(executor.close(), executor.close())
    with pytest.raises(ExecutorClosed):
        await call


async def test_a_call_cancelled_while_the_executor_closes_ends_too(make_executor: Make, sh: Sh, until: Until) -> None:
    """Neither waits for the other for ever."""
    executor = await make_executor()
    call = asyncio.create_task(run(executor, sh("sleep 60")))
    await until(lambda: executor.statistics().running == 1)
    closing = asyncio.create_task(executor.close())
    await asyncio.sleep(0)
    call.cancel()
    await closing
    await asyncio.wait([call])
    assert call.cancelled() or isinstance(call.exception(), ExecutorClosed)


async def test_a_cancelled_close_still_ends_everything(make_executor: Make, sh: Sh, until: Until) -> None:
    """The cancellation comes out, but only after programs and threads are gone."""
    executor = await make_executor()
    call = asyncio.create_task(run(executor, sh("sleep 60")))
    await until(lambda: executor.statistics().running == 1)
    closing = asyncio.create_task(executor.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert slots() == []
    assert programs() == []
    await asyncio.wait([call])
    assert isinstance(call.exception(), ExecutorClosed)


async def test_an_executor_that_was_not_started_takes_no_tasks(sh: Sh) -> None:
    """The text says that it was never started."""
    from drakkar_flow.config.sections.executor import ExecutorConfig
    from drakkar_flow.observe.bus import Bus

    executor = OneshotExecutor(ExecutorConfig(), Bus())
    with pytest.raises(ExecutorClosed, match="never started"):
        await run(executor, sh("true"))
    await executor.close()
