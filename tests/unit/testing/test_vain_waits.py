"""A wait for what can never happen fails at once, and says what is outstanding."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from drakkar_flow import ExecutorTask, Handler, PendingContext, StreamFlow, periodic
from drakkar_flow.model.record import Record
from drakkar_flow.observe.events.records import RecordsFinished
from drakkar_flow.testing import Answer, FlowHarness, MemorySink, ScriptedExecutor

LONG = 600.0  # real seconds: beyond the limit of every test, so whoever waits them out fails


class PerRecord(Handler[str, str]):
    """A task for each record."""

    async def arrange(self, messages: list[Record[str]], pending: PendingContext) -> list[ExecutorTask]:
        return [ExecutorTask(task_id=f"t-{m.offset}", source_offsets=[m.offset]) for m in messages]


@contextmanager
def told(*components: str) -> Iterator[None]:
    """The block fails with a message that has all of `components`."""
    with pytest.raises(AssertionError) as caught:
        yield
    for part in components:
        assert part in str(caught.value)


def test_a_condition_that_nothing_will_make_true() -> None:
    """Everything is finished, and the test waits for more."""
    with FlowHarness(StreamFlow("f").decode(str).route()) as kit:
        kit.send("a")
        with told("nothing more can happen", "in flight: none", "committed: {('input', 0): 1}"):
            kit.wait_for(lambda: len(kit.values) == 2, LONG)


def test_a_condition_that_nothing_will_make_true_in_real_time() -> None:
    """There is no clock to ask, but nothing is under way."""
    with FlowHarness(StreamFlow("f").decode(str).route(), clock="real") as kit:
        kit.send("a")
        with told("no work is under way"):
            kit.wait_for(lambda: len(kit.values) == 2, LONG)


def test_a_task_at_a_gate_that_nobody_opens() -> None:
    """The task and its gate are named."""
    programs = ScriptedExecutor()
    programs.gate("t-0").shut()
    with FlowHarness(PerRecord(), executor=programs) as kit:
        kit.send("a")
        with told("not acknowledged: input:0:0", "tasks that run: t-0", "shut: task t-0", "at work: execute 1"):
            kit.wait_acknowledged(timeout_s=LONG)
        programs.gate("t-0").open()
        kit.wait_acknowledged()


def test_an_end_that_a_gate_holds_up() -> None:
    """finish does not wait for ever either; the sink is named."""
    sink = MemorySink("out")
    sink.gate.shut()
    with (
        told("the flow does not end", "held at a gate that is shut: kafka-out"),
        FlowHarness(StreamFlow("f").decode(str).route(), sinks=[sink]) as kit,
    ):
        kit.send("a")
        kit.finish(LONG)


def test_a_hook_that_awaits_what_never_comes() -> None:
    """The step that it hangs in is named."""

    class Hanging(PerRecord):
        async def arrange(self, messages: list[Record], pending: PendingContext) -> Any:
            await asyncio.Event().wait()

    with FlowHarness(Hanging()) as kit:
        kit.send("a")
        with told("nothing more can happen", "at work: arrange 1"):
            kit.wait_acknowledged(timeout_s=LONG)


def test_a_message_of_a_partition_that_was_taken_away() -> None:
    """Nobody reads it."""
    with FlowHarness(StreamFlow("f").decode(str).route(), partitions=2) as kit:
        kit.revoke(1)
        message = kit.send("a", partition=1)
        with told("not acknowledged: input:1:0", "partitions that are not assigned: input:1"):
            kit.wait_acknowledged(message, timeout_s=LONG)


class Ticking(PerRecord):
    """Has a function that runs for ever."""

    ticks = 0

    @periodic(seconds=1)
    async def tick(self) -> None:
        self.ticks += 1


def test_periodic_functions_keep_no_vain_wait_alive() -> None:
    """They would go on for ever; what else is due, however much later, is waited for."""
    handler = Ticking()
    programs = ScriptedExecutor({"t-0": Answer(delay_s=150)})
    with FlowHarness(handler, executor=programs, config={"executor": {"task_timeout_seconds": 200}}) as kit:
        kit.send("a")
        kit.wait_acknowledged()
        assert 145 <= handler.ticks <= 155
        with told("only periodic functions go on"):
            kit.wait_for(lambda: False, LONG)


def test_periodic_functions_do_not_run_ahead_of_a_test_that_is_slow_to_look() -> None:
    """What it waits for has come: until it has looked, no time passes."""
    handler = Ticking()

    def slow_look() -> bool:
        threading.Event().wait(0.1)
        return bool(kit.of(RecordsFinished))

    with FlowHarness(handler) as kit:
        kit.send("a")
        kit.wait_for(slow_look)
        assert (handler.ticks, kit.clock.now) == (0, 0.0)
        kit.wait_for(lambda: handler.ticks == 3)
        assert kit.clock.now == 3.0
