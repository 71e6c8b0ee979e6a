"""What a partition waits for, as told to whoever asks why it does not move."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from drakkar_flow.model.outcome import Delivery
from drakkar_flow.model.record import FULL_CREDIT, Record
from drakkar_flow.model.task import ExecutorTask
from drakkar_flow.runtime.bridge import Bridge
from drakkar_flow.runtime.steps.step import AsyncStep
from drakkar_flow.runtime.steps.waits import Wait, waits_of
from drakkar_flow.runtime.steps.windows import WindowRun
from support.steps import context_of

A, B = ("in", 0), ("in", 1)


class Waiting(AsyncStep[Any, Any]):
    """A step whose calls wait for ever."""

    def accept(self, items: list[Any]) -> None:
        """Begin a call about each item."""
        for item in items:
            self.open += 1
            self._calls.call(_outer, (), lambda *_: None, item)


async def _outer() -> None:
    await _inner()


async def _inner() -> None:
    await asyncio.Event().wait()


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    """An open bridge."""
    bridge = Bridge()
    bridge.open()
    yield bridge
    bridge.close(10)


def waits(bridge: Bridge, steps: list[AsyncStep[Any, Any]], limit: int = 5) -> list[Wait]:
    """What lane A waits for."""

    async def ask() -> list[Wait]:
        return waits_of(steps, A, limit)

    return bridge.run(ask(), 10)


def step(bridge: Bridge, step_id: str, *items: Any) -> Waiting:
    """A step with a call about each item."""
    made = Waiting(context_of(bridge=bridge), step_id)
    bridge.post(made.accept, list(items))
    return made


def record(lane: tuple[str, int], offset: int = 0) -> Record:
    """A record of a lane."""
    return Record(*lane, offset, b"x")


def _window() -> WindowRun:
    return WindowRun([record(A, 7)], 0.0, keep_messages=False)


@pytest.mark.parametrize(
    "subject",
    [
        record(A, 7),
        [record(B), record(A, 7)],
        _window(),
        _window().groups[0],
        _window().attribute(ExecutorTask(task_id="t", source_offsets=[7])),
        [Delivery(None, ((record(A, 7), FULL_CREDIT),))],
    ],
    ids=lambda it: type(it).__name__,
)
def test_a_call_is_found_by_the_records_it_is_about(bridge: Bridge, subject: object) -> None:
    """Whatever a step's calls are about, its step, its record and the line that waits are told."""
    steps = [step(bridge, "other", record(B)), step(bridge, "mine", subject)]
    (wait,) = waits(bridge, steps)
    assert (wait.step, wait.record and wait.record.offset) == ("mine", 7)
    assert [frame.rsplit(" ", 1)[1] for frame in wait.stack[:2]] == ["_outer", "_inner"]


async def _deep(depth: int) -> None:
    await (_deep(depth - 1) if depth else _inner())


def test_a_deep_stack_keeps_both_ends(bridge: Bridge) -> None:
    """A library's many frames hide neither the hook that called it nor what it waits for."""
    made = step(bridge, "arrange")
    bridge.post(made._calls.call, _deep, (100,), lambda *_: None, record(A, 7))
    made.open = 1
    ((_, _, stack),) = waits(bridge, [made])
    assert len(stack) == 17
    assert [frame.rsplit(" ", 1)[1] for frame in (stack[0], stack[7], stack[9], stack[-2], stack[-1])] == [
        "_deep", "_deep", "_deep", "_inner", "Event.wait",
    ]  # fmt: skip
    assert stack[8] == "... 87 frames more"


def test_records_that_queue_wait_for_the_calls_before_them(bridge: Bridge) -> None:
    """A sink that hangs with another partition's batch holds up this one too."""
    (wait,) = waits(bridge, [step(bridge, "sink", record(B))])
    assert (wait.step, wait.record) == ("sink", None)


def test_a_step_without_a_call_is_told_when_there_is_nothing_better(bridge: Bridge) -> None:
    """A window that lingers has no call; a step with nothing open is not waited for."""
    lingering, idle = step(bridge, "arrange"), step(bridge, "sink")
    lingering.open = 1
    assert waits(bridge, [lingering, idle]) == [Wait("arrange", None, ())]


def test_only_the_oldest_calls_are_told(bridge: Bridge) -> None:
    """Ten thousand waiting tasks make no ten thousand stacks."""
    found = waits(bridge, [step(bridge, "execute", *(record(A, offset) for offset in range(9)))], limit=3)
    assert [wait.record and wait.record.offset for wait in found] == [0, 1, 2]
