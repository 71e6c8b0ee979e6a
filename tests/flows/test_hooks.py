"""Hooks of the collect step: what they may return, and what becomes of their errors."""

from __future__ import annotations

import asyncio

import pytest

from drakkar_flow import (
    CollectResult,
    KafkaPayload,
    StreamFlow,
)
from drakkar_flow.model.group import MessageGroup
from drakkar_flow.model.outcome import FailureKind
from drakkar_flow.model.task import ExecutorResult
from drakkar_flow.observe.events.hooks import HookRan
from drakkar_flow.testing import FlowRun, MemorySink, ScriptedExecutor, run_flow
from support.handlers import LANE, PerRecord, ends, task


def test_d08_an_error_in_on_message_complete_keeps_no_offset() -> None:
    """D-8: the hook raises: its record goes to the dead letters and commits, its payloads stay delivered."""

    class Broken(PerRecord):
        async def on_message_complete(self, group: MessageGroup) -> None:
            raise RuntimeError("hook broke")

    outcome = run_flow(Broken(), [1, 2])
    assert outcome.values == ["t0", "t1"]
    assert outcome.committed == {LANE: 2}
    assert [(letter.kind, letter.stage, letter.error) for letter in outcome.dead_letters] == [
        (FailureKind.HOOK, "collect-on_task_complete.on_message_complete", "hook broke")
    ] * 2


@pytest.mark.parametrize("hook", ["on_task_complete", "on_message_complete", "on_window_complete"])
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (RuntimeError("broke"), "broke"),
        (RuntimeError(), "RuntimeError"),
        (42, "int where a CollectResult, a payload, a list of payloads or None belongs"),
        ([KafkaPayload(data=1), "x"], "str where"),
    ],
    ids=["raises", "raises-without-text", "number", "mixed-list"],
)
def test_a_hook_that_raises_or_returns_nonsense_is_a_dead_letter_of_its_records(
    hook: str, answer: RuntimeError | int | list[KafkaPayload | str], error: str
) -> None:
    """Nothing of what it returned is delivered, and the offsets move on."""

    async def answering(self: object, *args: object) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    handler = type("Odd", (PerRecord,), {hook: answering})()
    outcome = run_flow(handler, range(2))
    assert {(letter.kind, letter.stage) for letter in outcome.dead_letters} == {
        (
            FailureKind.HOOK,
            f"collect-on_task_complete.{hook}" if hook != "on_task_complete" else f"collect-answering.{hook}",
        )
    }
    assert all(error in letter.error for letter in outcome.dead_letters)
    assert sorted(r.offset for letter in outcome.dead_letters for r, _ in letter.tokens) == [0, 1]
    told = [event for event in outcome.of(HookRan) if event.error]
    assert len(told) == len(outcome.dead_letters)
    assert {event.hook for event in told} == {hook}
    assert all(error in event.error and event.exception is not None for event in told)
    assert outcome.values == ([] if hook == "on_task_complete" else ["t0", "t1"])
    assert outcome.committed == {LANE: 2}
    assert ends(outcome) == (0, 0, 2)


@pytest.mark.parametrize(
    ("answer", "values"),
    [
        (None, []),
        (CollectResult(), []),
        ([], []),
        (KafkaPayload(data=1), [1]),
        ((KafkaPayload(data=1), [CollectResult(kafka=[KafkaPayload(data=2), KafkaPayload(data=3)])]), [1, 2, 3]),
    ],
    ids=["none", "empty-result", "empty-list", "payload", "nested"],
)
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_hooks_return_payloads_in_any_wrapping(answer: object, values: list[int], is_async: bool) -> None:
    """A CollectResult, a payload, several, or nothing; from plain and async functions."""

    async def later(result: ExecutorResult) -> object:
        await asyncio.sleep(0)
        return answer

    collect = later if is_async else lambda result: answer
    flow = StreamFlow("any").arrange(lambda records, _: [task("t", 0)]).execute().collect(collect).route()
    outcome = run_flow(flow, [1])
    assert outcome.values == values
    assert outcome.committed == {LANE: 1}


def test_collect_without_hooks_finishes_records_when_their_tasks_have_ended() -> None:
    """No hook at all: the tasks run, nothing is delivered, the offsets move on."""
    flow = StreamFlow("run").arrange(lambda records, _: [task("t", 0)]).execute().collect().route()
    executor = ScriptedExecutor()
    executor.gate().shut()
    with FlowRun(flow, [1], executor=executor) as run:
        run.wait_until(lambda: executor.started)
        assert run.reader.committed == {}
        executor.gate().open()
        assert run.finish().committed == {LANE: 1}


def test_one_payload_a_hook_made_waits_while_another_goes() -> None:
    """Two payloads of one record for two sinks: the offset waits for the slower sink."""

    class Twice(PerRecord):
        async def on_task_complete(self, result: ExecutorResult) -> list[KafkaPayload]:
            return [KafkaPayload(data="a", sink="a"), KafkaPayload(data="b", sink="b")]

    slow, fast = MemorySink("a"), MemorySink("b")
    slow.gate.shut()
    with FlowRun(Twice(), [1], sinks=[slow, fast]) as run:
        run.wait_until(lambda: fast.values == ["b"])
        assert run.reader.committed == {}
        slow.gate.open()
        assert run.finish().committed == {LANE: 1}
