"""Conformance suite of executors: a test for each guarantee of an executor."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from drakkar_flow.kinds.executor import Executor, Running, TaskOutcome
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask

__all__ = ["ExecutorBench", "ExecutorSuite"]

PATIENCE_S = 30.0


class ExecutorBench(ABC):
    """One executor and tasks for it."""

    slots = 2
    """Number of tasks that the executors of `executor` run at once."""

    @abstractmethod
    def executor(self) -> Executor:
        """Return an executor with `slots` slots, not started."""

    @abstractmethod
    def quick(self, task_id: str) -> ExecutorTask:
        """Return a task that soon succeeds."""

    @abstractmethod
    def failing(self, task_id: str) -> ExecutorTask:
        """Return a task that soon fails."""

    @abstractmethod
    def endless(self, task_id: str) -> ExecutorTask:
        """Return a task that runs until it is cancelled."""

    def handle(self, executor: Executor, task: ExecutorTask, priority: object = 0) -> Handle:
        """Submit a task."""
        return Handle(executor, task, priority)

    @asynccontextmanager
    async def started(self) -> AsyncIterator[Executor]:
        """Start an executor that is closed at the end."""
        executor = self.executor()
        await executor.start()
        try:
            yield executor
        finally:
            await executor.close()


class Handle:
    """A submitted task and its result."""

    def __init__(self, executor: Executor, task: ExecutorTask, priority: object) -> None:
        self.outcomes: list[TaskOutcome | None] = []
        self.threads: list[int] = []
        self._ended = asyncio.Event()
        self.running: Running = executor.submit(task, priority, self._done)

    def _done(self, outcome: TaskOutcome | None) -> None:
        self.outcomes.append(outcome)
        self.threads.append(threading.get_ident())
        self._ended.set()

    async def end(self) -> TaskOutcome | None:
        """Wait for the result of the task."""
        async with asyncio.timeout(PATIENCE_S):
            await self._ended.wait()
        return self.outcomes[0]


async def _until_running(executor: Executor, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while executor.statistics().running < count:  # noqa: ASYNC110 - an executor has no event for its starts
            await asyncio.sleep(0.001)


@pytest.mark.anyio
class ExecutorSuite:
    """Guarantees of an executor, one test each; `bench` is a fixture of the subclass."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Event loop of all executors."""
        return "asyncio"

    async def test_a_task_that_succeeds_is_a_result(self, bench: ExecutorBench) -> None:
        """The result names its task."""
        async with bench.started() as executor:
            task = bench.quick("t-1")
            outcome = await bench.handle(executor, task).end()

        assert isinstance(outcome, ExecutorResult)
        assert outcome.task is task
        assert outcome.duration_seconds >= 0

    async def test_a_task_that_fails_is_a_value(self, bench: ExecutorBench) -> None:
        """An error names its task and its kind; nothing is raised, and the next task runs."""
        async with bench.started() as executor:
            task = bench.failing("t-1")
            outcome = await bench.handle(executor, task).end()
            after = await bench.handle(executor, bench.quick("t-2")).end()

        assert isinstance(outcome, ExecutorError)
        assert outcome.task is task
        assert outcome.reason
        assert isinstance(after, ExecutorResult)

    async def test_every_task_ends_once_on_the_loops_thread(self, bench: ExecutorBench) -> None:
        """Many more tasks than slots, good and bad; afterwards no task runs or waits."""
        count = 20 * bench.slots
        async with bench.started() as executor:
            make = (bench.quick, bench.failing)
            handles = [bench.handle(executor, make[n % 2](f"t-{n}")) for n in range(count)]
            outcomes = [await handle.end() for handle in handles]
            statistics = executor.statistics()

        assert [type(outcome) for outcome in outcomes] == [ExecutorResult, ExecutorError] * (count // 2)
        assert {len(handle.outcomes) for handle in handles} == {1}
        assert {thread for handle in handles for thread in handle.threads} == {threading.get_ident()}
        assert (statistics.running, statistics.waiting, statistics.ended) == (0, 0, count)

    async def test_no_more_run_than_there_are_slots(self, bench: ExecutorBench) -> None:
        """The others wait, and the statistics count them."""
        async with bench.started() as executor:
            handles = [bench.handle(executor, bench.endless(f"t-{n}")) for n in range(bench.slots + 3)]
            await _until_running(executor, bench.slots)
            statistics = executor.statistics()
            assert all(handle.running.state() for handle in handles)

        assert statistics[:3] == (bench.slots, 3, bench.slots)

    async def test_a_cancelled_task_is_given_up_and_frees_its_slot(self, bench: ExecutorBench) -> None:
        """A running task and a waiting one; cancelling again, and after the end, does nothing."""
        async with bench.started() as executor:
            handles = [bench.handle(executor, bench.endless(f"t-{n}")) for n in range(bench.slots + 1)]
            await _until_running(executor, bench.slots)
            waiting = handles[-1]
            waiting.running.cancel()
            assert await waiting.end() is None
            for handle in handles:
                handle.running.cancel()
                handle.running.cancel()
            assert [await handle.end() for handle in handles] == [None] * len(handles)
            after = [bench.handle(executor, bench.quick(f"q-{n}")) for n in range(bench.slots)]
            assert all([isinstance(await handle.end(), ExecutorResult) for handle in after])
            for handle in (*handles, *after):
                handle.running.cancel()

        assert {len(handle.outcomes) for handle in (*handles, *after)} == {1}

    async def test_waiting_tasks_start_by_priority(self, bench: ExecutorBench) -> None:
        """The lowest first, then in the order they arrived."""
        ended: list[str] = []
        async with bench.started() as executor:
            holders = [bench.handle(executor, bench.endless(f"h-{n}"), -1) for n in range(bench.slots)]
            await _until_running(executor, bench.slots)
            priorities = [3, 1, 2, 1]
            tasks = [bench.quick(f"t-{n}") for n in range(len(priorities))]
            waiting = [
                asyncio.ensure_future(_noted(bench.handle(executor, task, priority), task, ended))
                for task, priority in zip(tasks, priorities, strict=True)
            ]
            holders[0].running.cancel()  # so that one slot serves them all
            await asyncio.gather(*waiting)

        assert ended == ["t-1", "t-3", "t-2", "t-0"]

    async def test_closing_gives_up_what_is_left(self, bench: ExecutorBench) -> None:
        """Running and waiting tasks; then, and before the start, every task is given up at once."""
        executor = bench.executor()
        assert await bench.handle(executor, bench.quick("early")).end() is None
        await executor.start()
        handles = [bench.handle(executor, bench.endless(f"t-{n}")) for n in range(bench.slots + 2)]
        await _until_running(executor, bench.slots)
        await executor.close()
        assert [handle.outcomes for handle in handles] == [[None]] * len(handles)
        assert await bench.handle(executor, bench.quick("late")).end() is None
        await executor.close()

    async def test_closing_is_safe_before_the_start(self, bench: ExecutorBench) -> None:
        """An early close does nothing."""
        await bench.executor().close()

    async def test_the_loop_is_not_blocked(self, bench: ExecutorBench) -> None:
        """While a task runs, other work on the loop continues."""
        async with bench.started() as executor:
            handle = bench.handle(executor, bench.endless("t-1"))
            await _until_running(executor, 1)
            for _ in range(100):
                await asyncio.sleep(0)
            assert handle.outcomes == []


async def _noted(handle: Handle, task: ExecutorTask, ended: list[str]) -> None:
    await handle.end()
    ended.append(task.task_id)
