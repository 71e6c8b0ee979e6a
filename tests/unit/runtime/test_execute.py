"""The execute worker's pauses between attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ErrorAction, ExecutorError, ExecutorTask
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.execute import ExecuteSettings, ExecuteWorker
from drakkar_flow.runtime.flight import Flight
from drakkar_flow.runtime.pending import PendingTasks
from drakkar_flow.runtime.windows import Ending, WindowRun
from drakkar_flow.testing import ScriptedExecutor
from support.loop import LoopBridge

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The loop the runtime runs on."""
    return "asyncio"


class Waiting:
    """A back-off that notes the attempts and lets each pause end when the test says."""

    def __init__(self) -> None:
        self.attempts: list[int] = []

    def delay_s(self, attempt: int, random: Callable[[], float]) -> float:
        """No pause but a turn of the loop."""
        assert 0 <= random() < 1
        self.attempts.append(attempt)
        return 600.0 if attempt == 3 else 0.0


async def test_each_retry_waits_for_the_back_off_of_its_attempt():
    """A parked retry runs nothing: the third attempt's pause is a long one here."""
    window = WindowRun([Record("in", 0, 0)], 0.0, keep_messages=False)
    run = window.attribute(ExecutorTask(task_id="t", source_offsets=[0]))
    executor = ScriptedExecutor({"t": 1})
    backoff: Any = Waiting()
    settings = ExecuteSettings("s", 9, None, ErrorAction.RETRY, backoff)
    worker = ExecuteWorker(LoopBridge(), Bus(), Flight(9, 9), PendingTasks(), executor, settings)
    worker.submit([[window, run]])
    for _ in range(50):
        await asyncio.sleep(0)
    assert backoff.attempts == [1, 2, 3]
    assert executor.started == ["t"] * 3
    assert executor.statistics().running == 0
    assert not worker.idle
    for waiting in tuple(worker._calls._tasks):
        waiting.cancel()


async def test_a_program_that_ctrl_c_killed_before_it_began_is_run_again():
    """Its death by the terminal's SIGINT is nobody's failure: on_error does not hear of it."""
    window = WindowRun([Record("in", 0, 0)], 0.0, keep_messages=False)
    run = window.attribute(ExecutorTask(task_id="t", source_offsets=[0]))
    outcomes: Any = iter([ExecutorError(task=run.task, kind="signal", exit_code=-2, signal=2), "fine"])
    executor = ScriptedExecutor(lambda _task: next(outcomes))
    asked: list[Any] = []
    settings = ExecuteSettings("s", 0, lambda *args: asked.append(args), ErrorAction.SKIP, Backoff(0.1, 1.0))
    bridge: Any = LoopBridge()
    worker = ExecuteWorker(bridge, Bus(), Flight(9, 9), PendingTasks(), executor, settings)
    worker.submit([[window, run]])
    for _ in range(50):
        await asyncio.sleep(0)
    assert (run.ending, asked) == (Ending.SUCCEEDED, [])
    assert executor.started == ["t", "t"]


async def test_a_program_that_always_ends_by_sigint_fails_in_the_end():
    """What it does to itself is a failure like any other."""
    window = WindowRun([Record("in", 0, 0)], 0.0, keep_messages=False)
    run = window.attribute(ExecutorTask(task_id="t", source_offsets=[0]))
    executor = ScriptedExecutor(lambda task: ExecutorError(task=task, kind="signal", exit_code=-2, signal=2))
    settings = ExecuteSettings("s", 0, None, ErrorAction.SKIP, Backoff(0.1, 1.0))
    bridge: Any = LoopBridge()
    worker = ExecuteWorker(bridge, Bus(), Flight(9, 9), PendingTasks(), executor, settings)
    worker.submit([[window, run]])
    for _ in range(50):
        await asyncio.sleep(0)
    assert run.ending is Ending.SKIPPED
    assert len(executor.started) == 4
