"""The execute step's pauses between attempts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.kernel.retry import RetryPolicy
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ErrorAction, ExecutorError, ExecutorTask
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.memory import MemoryGate
from drakkar_flow.runtime.steps.execute import ExecuteSettings, ExecuteStep
from drakkar_flow.runtime.steps.retry_queue import RetryQueue
from drakkar_flow.runtime.steps.waits import Wait, waits_of
from drakkar_flow.runtime.steps.windows import TaskEnd, TaskRun, WindowRun
from drakkar_flow.testing import Answer, ScriptedExecutor
from support.loop import SameThreadLoop
from support.steps import Alone, context_of

pytestmark = pytest.mark.anyio

BACKOFF = Backoff(0.001, 0.001)


@pytest.fixture
def anyio_backend() -> str:
    """The loop the runtime runs on."""
    return "asyncio"


class Waiting:
    """A back-off that notes the attempts: no pause but a turn of the loop, and a long one before the third retry."""

    def __init__(self) -> None:
        self.attempts: list[int] = []

    def delay_s(self, attempt: int, random: Callable[[], float]) -> float:
        """Note the attempt."""
        assert 0 <= random() < 1
        self.attempts.append(attempt)
        return 600.0 if attempt == 3 else 0.0


def one_run(**fields: Any) -> tuple[WindowRun, TaskRun]:
    """A window of one record with one task."""
    window = WindowRun([Record("in", 0, 0)], 0.0, keep_messages=False)
    return window, window.attribute(ExecutorTask(**{"task_id": "t", "source_offsets": [0]} | fields))


def step_of(executor: Any, settings: ExecuteSettings, *, in_flight: InFlight | None = None) -> Alone:
    """An execute step on the test's loop."""
    in_flight = in_flight or InFlight(9, 9)
    context = context_of(in_flight)
    parking = RetryQueue(SameThreadLoop(), in_flight, limit=5)
    return Alone(ExecuteStep(context, "execute", parking, executor, settings), context)


def retries(count: int, backoff: Any = BACKOFF, **more: Any) -> RetryPolicy:
    """Rules for retries."""
    return RetryPolicy(backoff, count, **more)


async def turns(count: int = 50) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.005)


async def test_each_retry_waits_for_the_back_off_of_its_attempt() -> None:
    """A parked retry runs nothing and is no load; the third attempt's pause is a long one here, until a drain."""
    window, run = one_run()
    executor = ScriptedExecutor({"t": 1})
    backoff = Waiting()
    in_flight = InFlight(9, 9)
    executing = step_of(executor, ExecuteSettings(retries(4, backoff), None, ErrorAction.RETRY), in_flight=in_flight)
    executing.put(window, run)
    await turns()
    assert backoff.attempts == [1, 2, 3]
    assert executor.started == ["t"] * 3
    assert executor.statistics()[:2] == (0, 0)
    assert not executing.idle
    in_flight.end()
    await until(lambda: run.ending is not None)
    assert (run.ending, len(executor.started)) == (TaskEnd.SKIPPED, 5)
    assert executing.step.open == 0


async def test_the_output_of_attempts_that_are_followed_by_another_leaves_the_budget_once() -> None:
    """A large output, then small ones: only what the last attempt wrote stays counted."""
    window, run = one_run()
    answers = iter([Answer(stdout="x" * 5000, exit_code=1), Answer(stdout="x", exit_code=1), Answer(stdout="x" * 3000)])
    in_flight = InFlight(9, 10**6)
    executor = ScriptedExecutor(lambda task: next(answers))
    executing = step_of(executor, ExecuteSettings(retries(4), None, ErrorAction.RETRY), in_flight=in_flight)
    executing.put(window, run)
    await until(lambda: run.ending is not None)
    assert (run.ending, in_flight.size) == (TaskEnd.SUCCEEDED, 3000)


async def test_who_asks_what_a_partition_waits_for_hears_of_its_task_until_it_ends() -> None:
    """A task is no call on the loop, and while it is parked no program runs: it is told all the same."""
    window, run = one_run()
    in_flight = InFlight(9, 9)
    settings = ExecuteSettings(retries(4, Waiting()), None, ErrorAction.RETRY)
    executing = step_of(ScriptedExecutor({"t": 1}), settings, in_flight=in_flight)
    executing.put(window, run)
    await turns()
    assert waits_of([executing.step], ("in", 0), 5) == [
        Wait("execute", run.first_record, ("task t, attempt 4: waits for its turn or its next attempt",))
    ]
    in_flight.end()
    await until(lambda: run.ending is not None)
    assert waits_of([executing.step], ("in", 0), 5) == []


async def test_an_executor_that_refuses_a_task_makes_it_fail() -> None:
    """An exception out of submit, which breaks the protocol, is an error of the task."""

    class Broken(ScriptedExecutor):
        def submit(self, task: Any, priority: Any, done: Any) -> Any:
            raise RuntimeError("bug")

    window, run = one_run()
    executing = step_of(Broken(), ExecuteSettings(retries(0), None, ErrorAction.DLQ))
    executing.put(window, run)
    await turns()
    assert run.ending is TaskEnd.DEAD
    assert run.error is not None
    assert (run.error.kind, run.error.exception) == ("internal", "RuntimeError: bug")


async def test_a_program_that_ctrl_c_killed_before_it_began_is_run_again() -> None:
    """Its death by the terminal's SIGINT is nobody's failure: on_error does not hear of it."""
    window, run = one_run()
    outcomes: Any = iter([ExecutorError(task=run.task, kind="signal", exit_code=-2, signal=2), "fine"])
    executor = ScriptedExecutor(lambda _task: next(outcomes))
    asked: list[Any] = []
    settings = ExecuteSettings(retries(0), lambda *args: asked.append(args), ErrorAction.SKIP)
    executing = step_of(executor, settings)
    executing.put(window, run)
    await turns()
    assert (run.ending, asked) == (TaskEnd.SUCCEEDED, [])
    assert executor.started == ["t", "t"]


async def test_a_program_that_always_ends_by_sigint_fails_in_the_end() -> None:
    """What it does to itself is a failure like any other."""
    window, run = one_run()
    executor = ScriptedExecutor(lambda task: ExecutorError(task=task, kind="signal", exit_code=-2, signal=2))
    executing = step_of(executor, ExecuteSettings(retries(0), None, ErrorAction.SKIP))
    executing.put(window, run)
    await turns()
    assert run.ending is TaskEnd.SKIPPED
    assert len(executor.started) == 4


async def test_a_program_that_ctrl_c_killed_runs_again_though_the_budget_of_bytes_is_spent() -> None:
    """Its first run is over, so nothing moves by itself: the memory gate lets it go on."""
    window, run = one_run(stdin="x" * 100_000)
    outcomes: Any = iter([ExecutorError(task=run.task, kind="signal", exit_code=-2, signal=2), "fine"])
    executor = ScriptedExecutor(lambda _task: next(outcomes))
    in_flight = InFlight(9, 9)
    steps: list[Any] = []
    context = context_of(in_flight, gate=MemoryGate(SameThreadLoop(), in_flight, lambda: steps))
    settings = ExecuteSettings(retries(0), None, ErrorAction.SKIP)
    parking = RetryQueue(SameThreadLoop(), in_flight, limit=5)
    executing = Alone(ExecuteStep(context, "execute", parking, executor, settings), context)
    steps.append(executing.step)
    executing.put(window, run)
    await until(lambda: run.ending is not None)
    assert executor.started == ["t", "t"]


async def test_only_the_last_attempts_output_counts_against_the_budget_of_bytes() -> None:
    """What a failed attempt wrote is dropped before the next one."""
    window, run = one_run()
    in_flight = InFlight(9, 1 << 30)
    executor = ScriptedExecutor({"t": Answer(stdout="x" * 100_000, exit_code=1)})
    executing = step_of(executor, ExecuteSettings(retries(2), None, ErrorAction.RETRY), in_flight=in_flight)
    executing.put(window, run)
    await until(lambda: run.ending is not None)
    assert len(executor.started) == 3
    assert in_flight.size == 100_000
