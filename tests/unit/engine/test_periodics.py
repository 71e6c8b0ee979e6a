"""Periodic functions, without any time: the test says when an interval is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from drakkar_flow.engine.periodics import Periodics
from drakkar_flow.graph.periodic import Periodic
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.hooks import PeriodicRan

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The loop the runtime runs on."""
    return "asyncio"


class Scene:
    """Periodic functions whose intervals end when `pass_interval` says so."""

    def __init__(self, *periodics: Periodic) -> None:
        self.ran: list[PeriodicRan] = []
        self.slept: list[float] = []
        self._waiting: list[asyncio.Future[None]] = []
        bus = Bus()
        bus.listen(PeriodicRan, self.ran.append)
        self.periodics = Periodics(periodics, bus, self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(over)
        await over

    async def pass_interval(self) -> None:
        """End every interval that has begun, and let what follows happen."""
        over, self._waiting = self._waiting, []
        for each in over:
            each.set_result(None)
        await turns()


async def turns() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


def broken(calls: list[str], error: BaseException) -> Callable[..., Any]:
    """A function that notes its call and raises."""

    async def function() -> None:
        calls.append("broken")
        raise error

    return function


def noting(calls: list[str]) -> Callable[..., Any]:
    """A function that notes its call."""

    async def function() -> None:
        calls.append("fine")

    return function


async def test_d44_the_first_run_comes_after_one_interval() -> None:
    """D-44: starting runs nothing."""
    calls: list[str] = []
    scene = Scene(Periodic(noting(calls), "beat", 30.0, "continue"))
    await scene.periodics.start()
    await turns()
    assert (calls, scene.slept) == ([], [30.0])
    await scene.pass_interval()
    assert (calls, scene.slept) == (["fine"], [30.0, 30.0])
    assert [(event.name, event.error) for event in scene.ran] == [("beat", "")]
    await scene.periodics.close()


async def test_d44_runs_never_overlap() -> None:
    """D-44: the next interval begins when a run has ended, however long it took."""
    gate = asyncio.Event()
    running: list[int] = []

    async def slow() -> None:
        running.append(1)
        await gate.wait()

    scene = Scene(Periodic(slow, "slow", 0.1, "continue"))
    await scene.periodics.start()
    await turns()
    await scene.pass_interval()
    assert (len(running), len(scene.slept)) == (1, 1)
    await scene.pass_interval()
    assert len(running) == 1
    gate.set()
    await turns()
    assert len(scene.slept) == 2
    await scene.periodics.close()


@pytest.mark.parametrize("error", [ValueError("boom"), asyncio.CancelledError(), SystemExit(2)], ids=repr)
async def test_d44_an_error_ends_a_function_only_when_it_says_so(error: BaseException) -> None:
    """D-44: `continue` goes on, `stop` was its last run; others go on; each run is told."""
    calls: list[str] = []
    scene = Scene(
        Periodic(broken(calls, error), "stubborn", 1.0, "continue"),
        Periodic(broken(calls, error), "touchy", 1.0, "stop"),
        Periodic(noting(calls), "healthy", 1.0, "stop"),
    )
    await scene.periodics.start()
    await turns()
    for _ in range(3):
        await scene.pass_interval()
    told = [(event.name, bool(event.error), event.stopped) for event in scene.ran]
    assert told.count(("stubborn", True, False)) == 3
    assert told.count(("touchy", True, True)) == 1
    assert told.count(("healthy", False, False)) == 3
    assert len(told) == 7
    assert scene.ran[0].exception is error
    await scene.periodics.close()


async def test_a_run_under_way_is_cancelled_and_waited_for() -> None:
    """Its cleanup happens before `close` returns; that is no failed run."""
    cleaned: list[str] = []

    async def holding() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append("done")

    scene = Scene(Periodic(holding, "holding", 1.0, "continue"))
    await scene.periodics.start()
    await turns()
    await scene.pass_interval()
    await scene.periodics.close()
    await scene.periodics.close()
    assert (cleaned, scene.ran) == (["done"], [])
