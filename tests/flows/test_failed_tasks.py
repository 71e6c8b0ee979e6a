"""Tasks that fail, tasks that need no process, and hooks that can't answer about them."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

import pytest

from drakkar_flow import (
    ErrorAction,
    ExecutorTask,
    KafkaPayload,
    PendingContext,
    PrecomputedResult,
    StreamFlow,
)
from drakkar_flow.errors import ExecutorClosed
from drakkar_flow.graph.nodes import ErrorPolicy
from drakkar_flow.model.outcome import FailureKind
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorResult
from drakkar_flow.observe.events.hooks import HookRan, HooksRan
from drakkar_flow.observe.events.records import RecordsFailed
from drakkar_flow.observe.events.tasks import TasksPrecomputed
from drakkar_flow.observe.log.lines import LINES
from drakkar_flow.testing import FlowRun, ScriptedExecutor, run_flow
from support.handlers import LANE, PerRecord, Watching, config, ends, group_of, task


def changed(task_id: str, offsets: list[Any]) -> ExecutorTask:
    """A task whose offsets a hook changed after it made it."""
    made = task(task_id, 0)
    made.source_offsets = offsets
    return made


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (RuntimeError("no idea"), "on_error: no idea"),
        (None, "on_error: "),
        ("perhaps", "on_error: 'perhaps' is not a valid ErrorAction"),
        (["t1"], "on_error returned a list with values that are not tasks"),
        ([task("r", 1), 5], "on_error returned a list with values that are not tasks"),
        ([changed("r", ["3"])], "on_error returned a list with values that are not tasks"),
    ],
    ids=["raises", "none", "unknown", "strings", "mixed", "bad-offsets"],
)
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_d21_what_on_error_cannot_answer_is_a_skip(
    answer: RuntimeError | str | list[ExecutorTask | int | str] | None, problem: str, is_async: bool
) -> None:
    """D-21: on_error raises or returns nonsense: the task is skipped, it is told, the flow goes on."""

    def decide(task: ExecutorTask, error: ExecutorError) -> str | list[ExecutorTask | int | str] | None:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def decide_later(task: ExecutorTask, error: ExecutorError) -> str | list[ExecutorTask | int | str] | None:
        return decide(task, error)

    flow = (
        StreamFlow("d21")
        .arrange(lambda records, _: [task(f"t{record.offset}", record.offset) for record in records])
        .execute(on_error=decide_later if is_async else decide)
        .collect(lambda result: KafkaPayload(data=result.task.task_id))
        .route()
    )
    outcome = run_flow(flow, range(2), executor=ScriptedExecutor({"t0": 1}))
    assert outcome.values == ["t1"]
    assert outcome.committed == {LANE: 2}
    assert ends(outcome) == (1, 1, 0)
    (ran,) = [event for event in outcome.of(HookRan) if event.hook == "on_error"]
    assert ran.error.startswith(problem)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (ValueError("can't"), "can't"),
        (None, "arrange must return a list of ExecutorTask with the offsets they work for, not NoneType"),
        ("ab", "not str"),
        ([1, "x"], "not a list of int, str"),
        ([changed("t", ["7"])], "not one whose source_offsets are ['7']"),
        ([task("a", 0), changed("t", [None])], "not one whose source_offsets are [None]"),
    ],
    ids=["raises", "none", "text", "mixed", "offset-is-text", "offset-no-number"],
)
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_d22_what_arrange_cannot_answer_fails_its_window_and_the_partition_goes_on(
    answer: ValueError | str | list[ExecutorTask | int | str] | None, error: str, is_async: bool
) -> None:
    """D-22: arrange raises or returns nonsense: the window's records are dead letters, the next window is arranged."""

    def arrange(records: list[Record], pending: PendingContext) -> object:
        if records[0].offset > 1:
            return []
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def arrange_later(records: list[Record], pending: PendingContext) -> object:
        await asyncio.sleep(0)
        return arrange(records, pending)

    flow = StreamFlow("d22").arrange(arrange_later if is_async else arrange, name="a").execute().collect().route()
    outcome = run_flow(flow, range(4), config=config(2))
    (letter,) = outcome.dead_letters
    assert (letter.kind, letter.stage) == (FailureKind.ARRANGE, "arrange-a")
    assert error in letter.error
    assert [record.offset for record, _ in letter.tokens] == [0, 1]
    assert outcome.committed == {LANE: 4}
    assert ends(outcome) == (2, 0, 2)
    failed, went_well = outcome.of(HookRan)
    assert (failed.error, went_well.error) == (letter.error, "")
    assert failed.exception is answer or type(failed.exception) is TypeError


def test_d27_precomputed_tasks_need_no_executor_and_follow_the_same_rules() -> None:
    """D-27: exit 0 completes without a process, exit 2 asks on_error; nothing was run."""
    asked = []

    class Given(Watching):
        def tasks(self, messages: list[Record]) -> list[ExecutorTask]:
            return [
                task(f"t{r.offset}", r.offset, precomputed=PrecomputedResult(stdout="s", exit_code=r.offset * 2))
                for r in messages
            ]

        async def on_task_complete(self, result: ExecutorResult) -> KafkaPayload:
            return KafkaPayload(data=(result.task.task_id, result.stdout, result.pid))

        async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction:
            asked.append((task.task_id, error.exit_code, error.stdout))
            return ErrorAction.SKIP

    handler = Given()
    executor = ScriptedExecutor()
    outcome = run_flow(handler, range(2), executor=executor)
    assert [event.count for event in outcome.of(HooksRan) if event.hook == "on_task_complete"] == [1]
    assert outcome.values == [("t0", "s", None)]
    assert asked == [("t1", 2, "s")]
    assert executor.started == []
    assert [event.count for event in outcome.of(TasksPrecomputed)] == [2]
    assert (group_of(handler, 0).succeeded, group_of(handler, 1).failed) == (1, 1)
    assert outcome.committed == {LANE: 2}


def test_a_precomputed_result_of_a_wrong_type_fails_its_task_and_no_other() -> None:
    """One that was assigned: on_error is asked, the flow goes on."""
    asked = []

    class Mistaken(PerRecord):
        def tasks(self, messages: list[Record]) -> list[ExecutorTask]:
            tasks = super().tasks(messages)
            tasks[0].precomputed = {"stdout": "x"}  # type: ignore[assignment]  # wrong on purpose
            return tasks

        async def on_error(self, task: ExecutorTask, error: ExecutorError) -> Any:
            asked.append((task.task_id, error.kind, error.exception))

    outcome = run_flow(Mistaken(), range(2))
    assert asked == [("t0", "internal", "precomputed must be a PrecomputedResult, not dict")]
    assert outcome.values == ["t1"]
    assert outcome.committed == {LANE: 2}


@pytest.mark.parametrize("replaces", [False, True], ids=["retry", "replacement"])
def test_on_error_may_change_the_task_before_it_runs_again(replaces: bool) -> None:
    """Its arguments and even its id; nothing of the old id stays pending."""

    class Changing(Watching):
        async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
            task.args.append("--slow")
            task.task_id += "-again"
            return [task] if replaces else ErrorAction.RETRY

        async def on_task_complete(self, result: ExecutorResult) -> KafkaPayload:
            return KafkaPayload(data=[result.task.task_id, result.task.args])

    handler = Changing()
    executor = ScriptedExecutor({"t0": 1})
    executor.gate("t1").shut()
    with FlowRun(handler, [1, 2], executor=executor, config=config(2), open_end=True) as run:
        run.wait_until(lambda: run.sink().values == [["t0-again", ["--slow"]]])
        run.reader.put([3])
        run.wait_until(lambda: len(run.sink().values) == 2)
        executor.gate("t1").open()
        run.reader.end()
        outcome = run.finish()
    assert handler.pending == [set(), {"t1"}]
    assert outcome.committed == {LANE: 3}


def test_precomputed_tasks_that_have_ended_are_not_pending() -> None:
    """They never ran, and are forgotten like those that did."""

    class Given(PerRecord):
        def tasks(self, messages: list[Record]) -> list[ExecutorTask]:
            return [task(f"t{r.offset}", r.offset, precomputed=PrecomputedResult()) for r in messages]

    handler = Given()
    with FlowRun(handler, [1], config=config(1), open_end=True) as run:
        run.wait_until(lambda: run.reader.committed == {LANE: 1})
        run.reader.put([2])
        run.wait_until(lambda: run.reader.committed == {LANE: 2})
    assert handler.pending == [set(), set()]


@pytest.mark.parametrize("policy", ["dlq", "skip", "fail"])
def test_the_dlq_action_makes_a_dead_letter_whatever_the_error_route_says(policy: ErrorPolicy) -> None:
    """DLQ asked for by on_error is a dead letter with the task; its records end dead."""
    flow = (
        StreamFlow("dead")
        .arrange(lambda records, _: [task("both", 0, 1), task("fine", 1)])
        .execute(on_error=lambda task, error: ErrorAction.DLQ)
        .collect(name="c")
        .route(on_error=policy)
    )
    outcome = run_flow(flow, range(2), executor=ScriptedExecutor({"both": 7}))
    (letter,) = outcome.dead_letters
    assert (letter.kind, letter.stage) == (FailureKind.TASK, "collect-c")
    assert letter.error == "task both failed (nonzero_exit): exit code 7"
    assert letter.task is not None
    assert letter.task.task.task_id == "both"
    assert [record.offset for record, _ in letter.tokens] == [0, 1]
    assert outcome.committed == {LANE: 2}
    assert outcome.failure is None
    assert ends(outcome) == (0, 0, 2)


@pytest.mark.parametrize(("setting", "letters"), [("skip", 0), ("dlq", 1)])
def test_without_on_error_the_configuration_decides_about_failed_tasks(setting: str, letters: int) -> None:
    """runtime.on_task_error is the answer where there is no hook."""
    flow = StreamFlow("plain").arrange(lambda records, _: [task("t", 0)]).execute().collect().route()
    outcome = run_flow(flow, [1], executor=ScriptedExecutor({"t": 1}), config=config(on_task_error=setting))
    assert len(outcome.dead_letters) == letters
    assert outcome.committed == {LANE: 1}


@pytest.mark.parametrize(("setting", "letters"), [("skip", 0), ("dlq", 1)])
def test_n12_a_handler_without_on_error_does_what_the_configuration_says(setting: str, letters: int) -> None:
    """The failure is told, with the setting that decides where it is skipped."""
    outcome = run_flow(PerRecord(), [1], executor=ScriptedExecutor({"t0": 1}), config=config(on_task_error=setting))
    assert (len(outcome.dead_letters), outcome.committed) == (letters, {LANE: 1})
    (told,) = outcome.of(RecordsFailed)
    line = LINES[RecordsFailed](told)
    dead = "they become dead letters, unless the brake holds them"
    expect = "given up: skipped (runtime.on_task_error: skip)" if setting == "skip" else dead
    assert line is not None
    assert (line.level, line.event, line.expect) == ("warning", "records_failed", expect)
    assert line.fields["task_id"] == "t0"


def test_an_executor_that_breaks_its_word_makes_a_failed_task() -> None:
    """An exception of the executor is an error of kind 'internal', decided by on_error like any other."""

    def broken(task: ExecutorTask) -> NoReturn:
        raise RuntimeError("bug")

    seen = []

    class Asking(PerRecord):
        async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction:
            seen.append((error.kind, error.exception))
            return ErrorAction.DLQ

    outcome = run_flow(Asking(), [1], executor=ScriptedExecutor(broken))
    assert seen == [("internal", "RuntimeError: bug")]
    assert len(outcome.dead_letters) == 1
    assert outcome.committed == {LANE: 1}


def test_a_closing_executor_keeps_the_offset() -> None:
    """ExecutorClosed is nobody's failure: the record is neither a dead letter nor committed."""

    def closed(task: ExecutorTask) -> NoReturn:
        raise ExecutorClosed("closing")

    handler = Watching()
    outcome = run_flow(handler, [1], executor=ScriptedExecutor(closed))
    assert (outcome.values, outcome.dead_letters, outcome.committed, handler.groups) == ([], [], {}, [])
