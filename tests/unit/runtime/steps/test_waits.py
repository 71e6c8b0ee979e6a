"""What a partition waits for, as told to whoever asks why it does not move."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from drakkar_flow.model.outcome import Delivery
from drakkar_flow.model.record import FULL_CREDIT, Record
from drakkar_flow.model.task import ExecutorTask
from drakkar_flow.runtime.event_loop import EventLoopThread
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
def loop_thread() -> Iterator[EventLoopThread]:
    """An open bridge."""
    loop_thread = EventLoopThread()
    loop_thread.open()
    yield loop_thread
    loop_thread.close(10)


def waits(loop_thread: EventLoopThread, steps: list[AsyncStep[Any, Any]], limit: int = 5) -> list[Wait]:
    """What partition A waits for."""

    async def ask() -> list[Wait]:
        return waits_of(steps, A, limit)

    return loop_thread.run(ask(), 10)


def step(loop_thread: EventLoopThread, step_id: str, *items: Any) -> Waiting:
    """A step with a call about each item."""
    made = Waiting(context_of(loop_thread=loop_thread), step_id)
    loop_thread.post(made.accept, list(items))
    return made


def record(topic_partition: tuple[str, int], offset: int = 0) -> Record:
    """A record of a partition."""
    return Record(*topic_partition, offset, b"x")


def _window() -> WindowRun:
    return WindowRun([record(A, 7)], 0.0, keep_messages=False)


@pytest.mark.parametrize(
    "subject",
    [
        record(A, 7),
        [record(B), record(A, 7)],
        _window(),
        _window().in_progress[0],
        _window().attribute(ExecutorTask(task_id="t", source_offsets=[7])),
        [Delivery(None, ((record(A, 7), FULL_CREDIT),))],
    ],
    ids=lambda it: type(it).__name__,
)
def test_a_call_is_found_by_the_records_it_is_about(loop_thread: EventLoopThread, subject: object) -> None:
    """Whatever a step's calls are about, its step, its record and the line that waits are told."""
    steps: list[AsyncStep[Any, Any]] = [step(loop_thread, "other", record(B)), step(loop_thread, "mine", subject)]
    (wait,) = waits(loop_thread, steps)
    assert (wait.step, wait.record and wait.record.offset) == ("mine", 7)
    assert [frame.rsplit(" ", 1)[1] for frame in wait.stack[:2]] == ["_outer", "_inner"]


async def _deep(depth: int) -> None:
    await (_deep(depth - 1) if depth else _inner())


def test_a_deep_stack_keeps_both_ends(loop_thread: EventLoopThread) -> None:
    """A library's many frames hide neither the hook that called it nor what it waits for."""
    made = step(loop_thread, "arrange")
    loop_thread.post(made._calls.call, _deep, (100,), lambda *_: None, record(A, 7))
    made.open = 1
    ((_, _, stack),) = waits(loop_thread, [made])
    assert len(stack) == 17
    assert [frame.rsplit(" ", 1)[1] for frame in (stack[0], stack[7], stack[9], stack[-2], stack[-1])] == [
        "_deep", "_deep", "_deep", "_inner", "Event.wait",
    ]  # fmt: skip
    assert stack[8] == "... 87 frames more"


def test_records_that_queue_wait_for_the_calls_before_them(loop_thread: EventLoopThread) -> None:
    """A sink that hangs with another partition's batch holds up this one too."""
    (wait,) = waits(loop_thread, [step(loop_thread, "sink", record(B))])
    assert (wait.step, wait.record) == ("sink", None)


def test_a_step_without_a_call_is_told_when_there_is_nothing_better(loop_thread: EventLoopThread) -> None:
    """A window that lingers has no call; a step with nothing open is not waited for."""
    lingering, idle = step(loop_thread, "arrange"), step(loop_thread, "sink")
    lingering.open = 1
    assert waits(loop_thread, [lingering, idle]) == [Wait("arrange", None, ())]


def test_only_the_oldest_calls_are_told(loop_thread: EventLoopThread) -> None:
    """Ten thousand waiting tasks make no ten thousand stacks."""
    found = waits(loop_thread, [step(loop_thread, "execute", *(record(A, offset) for offset in range(9)))], limit=3)
    assert [wait.record and wait.record.offset for wait in found] == [0, 1, 2]
