"""The memory gate: who waits while the budget is spent, and that nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.model.record import Record
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.memory import Charge, MemoryGate
from support.loop import SameThreadLoop


@pytest.fixture
def anyio_backend() -> str:
    """The loop the runtime runs on."""
    return "asyncio"


class Step:
    """A step that has something under way, or not; `looks` counts how often it was asked."""

    def __init__(self) -> None:
        self.looks = 0
        self._moving = True

    @property
    def moving(self) -> bool:
        self.looks += 1
        return self._moving

    @moving.setter
    def moving(self, value: bool) -> None:
        self._moving = value

    async def asked_again(self) -> None:
        """Wait until the gate has looked twice more."""
        before = self.looks
        async with asyncio.timeout(5):
            while self.looks < before + 2:  # noqa: ASYNC110 - the gate has no event for a look
                await asyncio.sleep(0)


@given(sizes=st.lists(st.sampled_from([0, 0, 0, 0, 0, 5000]), max_size=400), chunk=st.integers(1, 150))
def test_payloads_of_a_chunk_count_as_if_one_came_after_the_other(sizes: list[int], chunk: int) -> None:
    """Whatever the sizes of the chunks; most of them are not looked at once many in a row were small."""
    records = [Record("in", 0, offset, payload="x" * size) for offset, size in enumerate(sizes)]
    single, chunks = InFlight(1000, 10**9), InFlight(1000, 10**9)
    one_by_one, together = Charge(single), Charge(chunks)
    for record in records:
        one_by_one(record, record.payload)
    held = [record.held for record in records]
    for record in records:
        record.held = None
    for start in range(0, len(records), chunk):
        together.payloads(records[start : start + chunk])
    assert [record.held for record in records] == held
    assert chunks.size == single.size


def full_flight() -> tuple[InFlight, Record]:
    """A flight of one record that takes the whole budget."""
    in_flight, record = InFlight(10, 100), Record("in", 0, 0, b"x")
    in_flight.add(((record.topic, 0), 0), [record])
    in_flight.charge(record, 99)
    return in_flight, record


@pytest.mark.anyio
async def test_calls_wait_while_the_budget_is_spent_and_keep_their_order() -> None:
    """They go on as soon as a record has left."""
    in_flight, _ = full_flight()
    step, done, both = Step(), [], asyncio.Event()
    gate = MemoryGate(SameThreadLoop(), in_flight, lambda: [step])
    assert gate.closed
    gate.delay(lambda: done.append(1))
    gate.delay(lambda: (done.append(2), both.set()))  # type: ignore[func-returns-value, arg-type]  # what it returns is ignored
    await step.asked_again()
    assert done == []
    in_flight.release((("in", 0), 0), 1, 100)
    await asyncio.wait_for(both.wait(), 5)
    assert done == [1, 2]
    assert not gate.closed


@pytest.mark.anyio
async def test_where_nothing_moves_the_budget_gives_way() -> None:
    """One call after the other, so that a window that waits for its last task ends."""
    in_flight, _ = full_flight()
    step, one, done = Step(), asyncio.Event(), asyncio.Event()
    gate = MemoryGate(SameThreadLoop(), in_flight, lambda: [step])
    calls = []

    def first() -> None:
        calls.append("first")
        step.moving = True
        one.set()

    gate.delay(first)
    gate.delay(lambda: (calls.append("second"), done.set()))  # type: ignore[func-returns-value, arg-type]  # what it returns is ignored
    step.moving = False
    await asyncio.wait_for(one.wait(), 5)
    await step.asked_again()
    assert calls == ["first"]
    step.moving = False
    await asyncio.wait_for(done.wait(), 5)
    assert calls == ["first", "second"]
