"""The hooks that answer in passing, and what handlers ask for: labels, priorities, decoding, offload, annotations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from drakkar_flow import (
    DrakkarConfig,
    ErrorAction,
    Handler,
    KafkaPayload,
    PendingContext,
    PrecomputedResult,
    StreamFlow,
    periodic,
)
from drakkar_flow.model.group import MessageGroup
from drakkar_flow.model.outcome import FailureKind
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask
from drakkar_flow.observe.events.annotations import Annotated
from drakkar_flow.observe.events.hooks import HookRan, PeriodicRan
from drakkar_flow.observe.events.records import RecordsFailed
from drakkar_flow.testing import FlowRun, ScriptedExecutor, run_flow
from drakkar_flow.testing.outcome import Outcome
from support.handlers import LANE, PerRecord, config, ends, task

# --- message_label --------------------------------------------------------------------------------------


class Labelled(Handler[int, int]):
    """Names records by their bytes; every record fails in arrange."""

    async def arrange(self, messages: list[Record[int]], pending: PendingContext) -> NoReturn:
        raise ValueError("no tasks")

    def message_label(self, msg: Record[int]) -> str:
        return f"order {msg.value.decode()}"


def test_records_are_named_by_message_label_in_errors_and_dead_letters() -> None:
    """Also where the value could not be decoded; each record of a window has its own name in its letter."""
    outcome = run_flow(Labelled(), [b"7", b"8", b"x"])
    arrange, decode = sorted(outcome.dead_letters, key=lambda letter: letter.kind)
    assert (decode.kind, decode.labels) == (FailureKind.DECODE, ("order x",))
    assert decode.error.startswith("order x: ")
    assert (arrange.kind, arrange.labels) == (FailureKind.ARRANGE, ("order 7", "order 8"))
    assert {event.label for event in outcome.of(RecordsFailed)} == {"order x", "order 7"}
    assert outcome.committed == {LANE: 3}


def test_a_flow_that_fails_names_the_record_by_its_label() -> None:
    """The reason of the end says what an operator looks for."""
    outcome = run_flow(Labelled(), [b"x"], config=DrakkarConfig(runtime={"on_decode_error": "fail"}))
    assert outcome.failure is not None
    assert outcome.failure.startswith("decode failed at order x: ")


@pytest.mark.parametrize("answer", [RuntimeError("no name"), 7, None], ids=["raises", "number", "none"])
def test_a_message_label_that_can_not_answer_is_counted_and_replaced(answer: RuntimeError | int | None) -> None:
    """The failure it was asked for is told with the usual label."""

    def label(self: object, msg: Record) -> int | None:
        if isinstance(answer, Exception):
            raise answer
        return answer

    outcome = run_flow(type("Odd", (Labelled,), {"message_label": label})(), [1])
    (letter,) = outcome.dead_letters
    assert letter.labels == ("input:0:0",)
    failed = [event for event in outcome.of(HookRan) if event.hook == "message_label"]
    assert failed
    assert all(event.error and event.exception is not None for event in failed)
    assert outcome.committed == {LANE: 1}


# --- task_priority --------------------------------------------------------------------------------------


def in_order(priority: Callable[..., Any] | None, count: int = 4) -> tuple[list[str], Outcome]:
    """The order in which tasks that all wait would get their slots, and what the flow did."""
    executor = ScriptedExecutor()
    handler = type("Ordered", (PerRecord,), {"task_priority": priority} if priority else {})()
    outcome = run_flow(handler, range(count), executor=executor)
    priorities: dict[str, Any] = executor.priorities
    return sorted(executor.priorities, key=priorities.__getitem__), outcome


def test_tasks_are_queued_by_ascending_priority() -> None:
    """Smaller first; equals in the order they came; texts and tuples as well as numbers."""
    assert in_order(lambda self, task: -(task.source_offsets[0] // 2))[0] == ["t2", "t3", "t0", "t1"]
    assert in_order(None)[0] == ["t0", "t1", "t2", "t3"]
    assert in_order(lambda self, task: ("b" if task.source_offsets[0] == 1 else "a", 0))[0] == ["t0", "t2", "t3", "t1"]


def test_priorities_of_different_kinds_can_be_compared() -> None:
    """Numbers before texts, shorter tuples before longer ones: no two tasks stop each other."""
    answers = ["late", 0.5, (0.5, "x"), 2]
    assert in_order(lambda self, task: answers[task.source_offsets[0]])[0] == ["t1", "t2", "t3", "t0"]


@pytest.mark.parametrize("answer", [KeyError("size"), None, float("nan"), [1]], ids=["raises", "none", "nan", "list"])
def test_a_task_without_a_priority_is_queued_by_its_offset_and_counted(
    answer: KeyError | float | list[int] | None,
) -> None:
    """Beside tasks that have one: nothing is lost, nothing hangs."""

    def priority(self: object, task: ExecutorTask) -> float | list[int] | None:
        if task.source_offsets[0] == 3:
            return 1.5
        if isinstance(answer, Exception):
            raise answer
        return answer

    order, outcome = in_order(priority)
    assert order == ["t0", "t1", "t3", "t2"]
    told = [event for event in outcome.of(HookRan) if event.hook == "task_priority"]
    assert len(told) == 3
    assert all(event.error and event.exception is not None for event in told)
    assert outcome.committed == {LANE: 4}


def test_the_priority_is_asked_again_before_each_retry_and_never_for_tasks_that_succeed_precomputed() -> None:
    """A retry may be less urgent than the first attempt."""
    asked = []

    class Asking(PerRecord):
        def tasks(self, messages: list[Record]) -> list[ExecutorTask]:
            done = PrecomputedResult(stdout="known")
            return [task("run", 0), task("given", 0, precomputed=done)]

        def task_priority(self, task: ExecutorTask) -> int:
            asked.append(task.task_id)
            return 0

        async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction:
            return ErrorAction.RETRY

    run_flow(Asking(), [1], executor=ScriptedExecutor({"run": [1, 1, 0]}))
    assert asked == ["run"] * 3


def test_a_flow_has_priorities_too() -> None:
    """`execute(priority=...)` is what `task_priority` is for a handler."""
    asked = []
    flow = (
        StreamFlow("p")
        .arrange(lambda records, _: [task("t", 0)])
        .execute(priority=lambda t: asked.append(t.task_id) or 0)  # type: ignore[func-returns-value]  # append returns nothing, so the right side is returned
        .collect()
        .route()
    )
    assert run_flow(flow, [1]).committed == {LANE: 1}
    assert asked == ["t"]


# --- deserialize_message --------------------------------------------------------------------------------


class Lines(Handler):
    """Decodes by itself, without an input model; delivers what it decoded."""

    async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        self.seen = [message.payload for message in messages]
        return []

    def deserialize_message(self, msg: Record) -> Record:
        msg.payload = msg.value.decode().split(",")
        return msg


@pytest.mark.parametrize("returned", ["message", "nothing"])
def test_deserialize_message_replaces_the_decoding(returned: str) -> None:
    """It returns the message with its payload set, or sets it and returns nothing."""

    class Quiet(Lines):
        def deserialize_message(self, msg: Record) -> Any:
            super().deserialize_message(msg)

    handler = Lines() if returned == "message" else Quiet()
    outcome = run_flow(handler, [b"a,b", b"c"])
    assert handler.seen == [["a", "b"], ["c"]]
    assert outcome.committed == {LANE: 2}


@pytest.mark.parametrize(("policy", "expected"), [("dlq", (1, 0, 1)), ("skip", (1, 1, 0))], ids=["dead-letter", "skip"])
@pytest.mark.parametrize("fault", ["raises", "returns a dict"])
def test_a_message_that_is_not_deserialized_follows_the_decode_policy(
    policy: str, expected: tuple[int, int, int], fault: str
) -> None:
    """It is asked once, counted as a decode failure, and the other records go on."""
    calls = []

    class Strict(Lines):
        def deserialize_message(self, msg: Record) -> Any:
            calls.append(msg.offset)
            if msg.offset == 0 and fault != "raises":
                return {}
            return super().deserialize_message(msg)

    outcome = run_flow(Strict(), [b"\xff", b"c"], config=config(on_decode_error=policy))
    assert calls == [0, 1]
    assert ends(outcome) == expected
    (failed,) = outcome.of(RecordsFailed)
    assert (failed.kind, failed.count) == ("decode", 1)


def test_a_flow_decodes_whole_records() -> None:
    """`decode(fn, with_record=True)` gives the function the record: its key, its headers."""
    flow = StreamFlow("k").decode(lambda record: (record.offset, record.value), with_record=True).route()
    assert run_flow(flow, [b"a"]).values == [(0, b"a")]


# --- offload, annotate, periodic ------------------------------------------------------------------------


class Asking(PerRecord):
    """Computes on a thread, annotates what it did, and counts its own heartbeats."""

    beats = 0

    async def on_task_complete(self, result: ExecutorResult) -> KafkaPayload:
        value = await self.offload(str.upper, result.task.task_id)
        self.annotate(result, "upper", value)
        return KafkaPayload(data=value)

    @periodic(0.001)
    async def beat(self) -> None:
        self.beats += 1


def test_a_handler_computes_annotates_and_beats_while_its_flow_runs() -> None:
    """And when the flow has ended, it may run in another one."""
    handler = Asking()
    for _ in range(2):
        with FlowRun(handler, range(2), open_end=True) as run:
            run.wait_until(lambda run=run: len(run.sink().values) == 2 and handler.beats)  # type: ignore[misc]  # mypy knows no lambda with a default here
            run.reader.end()
            outcome = run.finish()
        assert sorted(outcome.values) == ["T0", "T1"]
        assert [(event.target, event.data) for event in outcome.of(Annotated)] == [("t0", '"T0"'), ("t1", '"T1"')]
        assert outcome.of(PeriodicRan)


def test_a_periodic_function_that_breaks_hurts_nobody() -> None:
    """Records are finished and committed beside it."""

    class Broken(PerRecord):
        @periodic(0.001)
        async def beat(self) -> None:
            raise RuntimeError("no heart")

    with FlowRun(Broken(), range(3), open_end=True) as run:
        run.wait_until(lambda: sum(isinstance(event, PeriodicRan) for event in list(run.events)) > 2)
        run.wait_until(lambda: run.reader.committed == {LANE: 3})
        run.reader.end()
        assert run.finish().values == ["t0", "t1", "t2"]


# --- a hook that raises is seen by those that follow ----------------------------------------------------


def test_g20_what_follows_an_on_task_complete_that_raised_sees_the_task_as_failed() -> None:
    """As in py-drakkar: exit code -1 in the window, an error in the group; its output is still there."""

    class Raising(PerRecord):
        async def on_task_complete(self, result: ExecutorResult) -> None:
            if result.task.task_id == "t1":
                raise ValueError("not this one")

        async def on_message_complete(self, group: MessageGroup) -> None:
            self.groups.append(group)

        async def on_window_complete(self, results: list[ExecutorResult], source_messages: list[Record]) -> None:
            self.window_ends.append([(result.task.task_id, result.exit_code, result.stdout) for result in results])  # type: ignore[arg-type]  # this one notes more

    handler = Raising()
    outcome = run_flow(handler, range(2), executor=ScriptedExecutor({"t0": "well", "t1": "said"}))
    assert [sorted(window) for window in handler.window_ends] == [[("t0", 0, "well"), ("t1", -1, "said")]]
    groups = {group.source_message.offset: group for group in handler.groups}
    assert (groups[0].succeeded, groups[0].failed, groups[1].succeeded, groups[1].failed) == (1, 0, 0, 1)
    assert groups[1].errors[0].exception == "on_task_complete: not this one"
    assert (len(outcome.dead_letters), outcome.committed) == (1, {LANE: 2})
