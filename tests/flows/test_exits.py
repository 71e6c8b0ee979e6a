"""Whatever a hook raises is its own failure: `sys.exit()` of a library, cancellation, what is no Exception."""

from __future__ import annotations

import asyncio
from asyncio.exceptions import CancelledError
from collections.abc import Callable
from typing import Any

import pytest

from drakkar_flow import KafkaPayload, StreamFlow
from drakkar_flow.model.outcome import FailureKind
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorResult
from drakkar_flow.observe.events.hooks import HookRan
from drakkar_flow.testing import MemorySink, ScriptedExecutor, failed, run_flow
from support.handlers import LANE, PerRecord, task


class Panic(BaseException):
    """As libraries in Rust raise it."""


ERRORS = [SystemExit(2), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(), Panic("rust")]
HOOKS = ["arrange", "on_task_complete", "on_message_complete", "on_window_complete", "on_error"]

by_error = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


def raising(error: BaseException, kind: str) -> Callable[..., Any]:
    """A hook that raises, in each of the ways a hook may be written."""

    def plain(self: object, *args: object) -> None:
        raise error

    async def at_once(self: object, *args: object) -> None:
        raise error

    async def later(self: object, *args: object) -> None:
        await asyncio.sleep(0)
        raise error

    return {"plain": plain, "async": at_once, "later": later}[kind]


@by_error
@pytest.mark.parametrize("kind", ["plain", "async", "later"])
@pytest.mark.parametrize("hook", HOOKS)
def test_whatever_a_hook_raises_is_a_failure_of_its_records(hook: str, kind: str, error: BaseException) -> None:
    """The loop lives, the offsets move on, and letters (for `on_error`: the log) say where."""
    handler = type("Leaving", (PerRecord,), {hook: raising(error, kind)})()
    executor = ScriptedExecutor(lambda task: failed(task, exit_code=2)) if hook == "on_error" else None
    outcome = run_flow(handler, [1, 2], executor=executor)
    assert outcome.failure is None
    assert outcome.committed == {LANE: 2}
    failures = [event for event in outcome.of(HookRan) if event.error]
    assert {event.hook for event in failures} == {hook}
    assert all(type(error).__name__ in repr(event.exception) for event in failures)
    assert [letter.kind for letter in outcome.dead_letters] == {
        "arrange": [FailureKind.ARRANGE],
        "on_window_complete": [FailureKind.HOOK],
        "on_error": [],
    }.get(hook, [FailureKind.HOOK] * 2)


@by_error
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_whatever_on_delivery_error_raises_loses_no_payload(kind: str, error: BaseException) -> None:
    """The payload is a dead letter, as if the hook had not been there."""
    handler = type("Leaving", (PerRecord,), {"on_delivery_error": raising(error, kind)})()
    outcome = run_flow(handler, [1], sinks=[MemorySink(script=[OSError("down")] * 3)])
    assert [(letter.kind, letter.error) for letter in outcome.dead_letters] == [(FailureKind.SINK, "down")]
    assert [event.exception is not None for event in outcome.of(HookRan) if event.hook == "on_delivery_error"] == [True]
    assert outcome.committed == {LANE: 1}


@pytest.mark.parametrize("error", [error for error in ERRORS if not isinstance(error, KeyboardInterrupt)])
@pytest.mark.parametrize("hook", ["deserialize_message", "message_label", "task_priority"])
def test_whatever_a_plain_hook_raises_is_its_failure(
    hook: str, error: GeneratorExit | SystemExit | CancelledError | Panic
) -> None:
    """The message is not decoded, has its usual label, its task the usual priority; the flow goes on."""

    class Leaving(PerRecord):
        async def on_task_complete(self, result: ExecutorResult) -> None:
            raise ValueError("named")

    handler = type("Leaving", (Leaving,), {hook: raising(error, "plain")})()
    outcome = run_flow(handler, [1, 2])
    assert outcome.failure is None
    assert outcome.committed == {LANE: 2}
    decoded = FailureKind.DECODE if hook == "deserialize_message" else FailureKind.HOOK
    assert [letter.kind for letter in outcome.dead_letters] == [decoded] * 2


@pytest.mark.parametrize("step", ["map", "filter", "flat_map", "map_async"])
@pytest.mark.parametrize("error", [SystemExit(2), asyncio.CancelledError(), Panic("rust")])
def test_whatever_a_step_raises_is_a_failure_of_its_record(
    step: str, error: SystemExit | CancelledError | Panic
) -> None:
    """A library that calls sys.exit() ends no flow; the other records go on."""

    def leave(value: int) -> object:
        if value == 1:
            raise error
        return [value] if step == "flat_map" else value

    async def leave_later(value: int) -> object:
        return leave(value)

    flow = getattr(StreamFlow("leave").decode(int), step)(leave_later if step == "map_async" else leave).route()
    outcome = run_flow(flow, [1, 2])
    assert [letter.kind for letter in outcome.dead_letters] == [FailureKind.BUSINESS]
    assert outcome.values == [2]
    assert outcome.committed == {LANE: 2}


def test_a_key_that_can_not_be_told_is_a_failure_whatever_it_raises() -> None:
    """Its task is a dead letter; the next one runs."""

    def key(record: Record) -> None:
        if record.offset == 0:
            raise SystemExit(2)

    flow = (
        StreamFlow("keyed")
        .arrange(lambda records, _: [task(f"t{record.offset}", record.offset) for record in records])
        .execute(key=key)
        .collect(lambda result: KafkaPayload(data=result.task.task_id))
        .route()
    )
    outcome = run_flow(flow, [1, 2])
    assert outcome.values == ["t1"]
    (letter,) = outcome.dead_letters
    assert "SystemExit: 2" in letter.error
