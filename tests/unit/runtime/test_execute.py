"""The execute worker's pauses between attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ErrorAction, ExecutorTask
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.execute import ExecuteSettings, ExecuteWorker
from drakkar_flow.runtime.flight import Flight
from drakkar_flow.runtime.pending import PendingTasks
from drakkar_flow.runtime.windows import WindowRun
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
    for call in worker._calls._tasks:
        call.cancel()
