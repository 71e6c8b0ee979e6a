"""Parking: who goes when, and what makes everybody due."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from drakkar_flow.model.record import Record
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.steps.retry_queue import RetryQueue
from support.loop import SameThreadLoop

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The loop the runtime runs on."""
    return "asyncio"


REVOKED = (("in", 0), 0)


class Lot:
    """A parking lot that notes who left."""

    def __init__(self, limit: int = 100, loop_thread: Any = None) -> None:
        self.in_flight = InFlight(9, 9)
        self.in_flight.add(REVOKED, [Record("in", 0, 0)])
        self.parking = RetryQueue(loop_thread or SameThreadLoop(), self.in_flight, limit)
        self.left: list[str] = []
        self.gone = asyncio.Event()

    def delay(self, name: str, delay_s: float, records: int = 1) -> None:
        """Park somebody."""
        self.parking.delay(delay_s, records, partial(self._leave, name))

    def _leave(self, name: str) -> None:
        self.left.append(name)
        self.gone.set()

    async def next_gone(self) -> list[str]:
        """Wait until somebody leaves."""
        await asyncio.wait_for(self.gone.wait(), 10)
        self.gone.clear()
        return self.left


async def test_everybody_leaves_when_the_pause_is_over_the_shortest_first() -> None:
    """One timer serves all, also one that comes later and is due earlier."""
    lot = Lot()
    for name, delay_s in (("late", 0.25), ("soon", 0.02), ("now", 0.0)):
        lot.delay(name, delay_s)
    assert lot.parking.records == 3
    while len(lot.left) < 3:
        await lot.next_gone()
    assert lot.left == ["now", "soon", "late"]
    assert lot.parking.records == 0


async def test_who_is_due_earlier_than_the_others_is_not_kept_by_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one timer is set anew, also where nobody looks for a drain meanwhile."""
    monkeypatch.setattr("drakkar_flow.runtime.steps.retry_queue._CHECK_S", 600)
    lot = Lot()
    lot.delay("late", 500)
    lot.delay("soon", 0.01)
    assert await lot.next_gone() == ["soon"]


async def test_nobody_leaves_in_the_turn_of_the_loop_in_which_it_parks() -> None:
    """So that a task that fails at once can't exhaust the stack."""
    lot = Lot(limit=0)
    lot.delay("at-once", 600)
    assert lot.left == []
    assert await lot.next_gone() == ["at-once"]


async def test_a_drain_makes_those_due_that_it_finds() -> None:
    """It is noticed without anybody saying so; who parks afterwards waits the pause out."""
    lot = Lot()
    lot.delay("a", 600)
    lot.delay("b", 500)
    lot.in_flight.end()
    await lot.next_gone()
    lot.delay("late", 600)
    lot.delay("soon", 0.2)
    assert await lot.next_gone() == ["b", "a", "soon"]
    assert lot.parking.records == 1


async def test_who_parks_in_the_turn_of_the_drain_is_not_found_by_it() -> None:
    """A task that fails again at once, in the middle of those that are due."""
    lot = Lot()
    lot.parking.delay(600, 1, partial(lot.delay, "again", 500))
    lot.delay("other", 550)
    lot.in_flight.end()
    assert await lot.next_gone() == ["other"]
    assert lot.parking.records == 1


async def test_a_drain_that_finds_nobody_hurries_nobody() -> None:
    """What fails for the first time in a drain waits its pause out, too."""
    lot = Lot()
    lot.in_flight.end()
    lot.delay("late", 600)
    lot.delay("soon", 0.2)
    assert await lot.next_gone() == ["soon"]


async def test_every_drain_makes_those_due_that_it_finds() -> None:
    """A partition is revoked, and later another one."""
    lot = Lot()
    for name in ("first", "second"):
        lot.delay(name, 600)
        revoke = asyncio.create_task(asyncio.to_thread(lot.in_flight.wait_idle, [REVOKED], 20))
        await lot.next_gone()
        lot.in_flight.release(REVOKED, 1, 1)
        assert await revoke == 0
        lot.in_flight.add(REVOKED, [Record("in", 0, 0)])
    assert lot.left == ["first", "second"]


async def test_beyond_the_limit_whoever_is_due_first_leaves_at_once() -> None:
    """The limit counts records: a task for many of them takes their places."""
    lot = Lot(limit=3)
    lot.delay("a", 600)
    lot.delay("b", 500)
    lot.delay("two", 700, records=2)
    assert await lot.next_gone() == ["b"]
    assert lot.parking.records == 3
    lot.delay("four", 400, records=4)
    assert await lot.next_gone() == ["b", "four"]
    assert lot.parking.records == 3


async def test_after_the_bridge_has_closed_nobody_leaves() -> None:
    """Whatever is parked then is nobody's any more: its offset stays."""

    class Closing(SameThreadLoop):
        is_closed = False

        @property
        def closed(self) -> bool:
            return self.is_closed

    loop_thread = Closing()
    lot = Lot(loop_thread=loop_thread)
    lot.delay("a", 0.0)
    loop_thread.is_closed = True
    for _ in range(10):
        await asyncio.sleep(0)
    assert lot.left == []
