"""Wrong tasks in a flow: one line that names the hook and the user's line, in the log and in the dead letter."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from drakkar_flow import (
    CollectResult,
    DrakkarConfig,
    ErrorAction,
    ExecutorTask,
    Handler,
    KafkaPayload,
    Record,
    StreamFlow,
)
from drakkar_flow.observe.events.hooks import HookRan
from drakkar_flow.observe.events.tasks import DuplicateTasks, TaskFailed
from drakkar_flow.testing import FlowHarness, ScriptedExecutor, run_flow
from support.handlers import LANE


def line_of(function: Any, text: str) -> str:
    """The file and line of a function where `text` stands."""
    lines, first = inspect.getsourcelines(function)
    index = next(index for index, line in enumerate(lines) if text in line)
    return f"{__file__}:{first + index}"


def flow_of(arrange: Any, on_error: Any = None) -> StreamFlow:
    """A flow with this arrange."""
    return StreamFlow("f").arrange(arrange).execute(on_error=on_error).collect(lambda r: KafkaPayload(data="x")).route()


def wrong_argument(record: Record) -> ExecutorTask:
    """Made by a helper of the user's."""
    return ExecutorTask(task_id=record.label, source_offsets=[record.offset], args=["a", 3])  # type: ignore[list-item]  # wrong on purpose


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task_id": "t"}, "Missing required argument 'source_offsets': write source_offsets=[record.offset], or"),
        ({"task_id": "t", "source_offsets": [0], "argv": []}, "Unexpected keyword argument 'argv'"),
        ({"task_id": "t", "source_offsets": [0], "args": [Path("x"), None]}, "task t: args[1] is None: leave it out"),
    ],
)
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_n19_a_wrong_call_in_arrange_is_one_line_with_its_place(
    fields: dict[str, Any], message: str, is_async: bool
) -> None:
    """Without a stack: it would only show the library."""

    def arrange(records: list[Record], pending: object) -> list[ExecutorTask]:
        return [ExecutorTask(**fields) for _ in records]

    async def arrange_later(records: list[Record], pending: object) -> list[ExecutorTask]:
        return [ExecutorTask(**fields) for _ in records]

    hook = arrange_later if is_async else arrange
    outcome = run_flow(flow_of(hook), ["x"])
    (letter,) = outcome.dead_letters
    assert letter.error.startswith(f"arrange at {line_of(hook, 'ExecutorTask(**')}: {message}")
    (ran,) = outcome.of(HookRan)
    assert ran.error == letter.error
    assert "\n" not in ran.error
    assert letter.stacktrace.count("\n") == 1


def test_f1_the_error_points_at_the_line_that_made_the_task() -> None:
    """Also where a function of the user's made it."""
    outcome = run_flow(flow_of(lambda records, _: [wrong_argument(record) for record in records]), ["x"])
    (letter,) = outcome.dead_letters
    place = line_of(wrong_argument, "ExecutorTask(task_id")
    assert letter.error == f"arrange at {place}: task input:0:0: args[1] is int 3: write str(3)"


def test_n19_what_arrange_returned_points_at_arrange() -> None:
    """A value that is wrong has no line of its own."""

    def arrange(records: list[Record], pending: object) -> None:
        return None

    (letter,) = run_flow(flow_of(arrange), ["x"]).dead_letters
    assert letter.error.endswith(f"not NoneType ({line_of(arrange, 'def arrange')})")


def test_n19_what_the_user_s_code_raises_keeps_its_stack() -> None:
    """Only wrong calls are cut short."""

    def arrange(records: list[Record], pending: object) -> list[ExecutorTask]:
        return [int("x")]  # type: ignore[list-item]  # wrong on purpose

    outcome = run_flow(flow_of(arrange), ["x"])
    (letter,) = outcome.dead_letters
    assert letter.error.startswith("invalid literal for int()")
    assert "in arrange" in letter.stacktrace


@pytest.mark.parametrize("hook", ["on_task_complete", "on_message_complete", "on_window_complete"])
def test_n19_a_wrong_payload_of_any_hook_is_one_line_with_its_place(hook: str) -> None:
    """The same kind of mistake."""

    class Mistaken(Handler):
        async def arrange(self, messages: Any, pending: Any) -> list[ExecutorTask]:
            return [message.task() for message in messages]

    async def wrong(self: Any, *_: Any) -> CollectResult:
        return CollectResult(kafka=[KafkaPayload(dta="x")])  # type: ignore[call-arg]  # wrong on purpose

    setattr(Mistaken, hook, wrong)
    (letter,) = run_flow(Mistaken(), ["x"]).dead_letters
    assert letter.error == f"{hook} at {line_of(wrong, 'KafkaPayload(dta')}: Unexpected keyword argument 'dta'"


def test_f1_a_wrong_replacement_is_a_skip_that_names_the_line() -> None:
    """As every answer of on_error that can't be followed."""

    def on_error(task: ExecutorTask, error: object) -> list[ExecutorTask]:
        return [task.model_copy(update={"args": [5]})]

    flow = flow_of(lambda records, _: [record.task() for record in records], on_error)
    outcome = run_flow(flow, ["x"], executor=ScriptedExecutor({"input:0:0": 1}))
    (ran,) = [event for event in outcome.of(HookRan) if event.hook == "on_error"]
    place = line_of(on_error, "model_copy")
    assert ran.error == f"on_error at {place}: task input:0:0: args[0] is int 5: write str(5)"
    assert outcome.committed == {LANE: 1}


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("args", ["a", 3], "args[1] is int 3: write str(3)"),
        ("stdin", 5, "stdin must be text or bytes, not int"),
        ("stdin", {}, "stdin must be text or bytes, not dict"),
        ("env", {"A": 1}, "env['A'] is int 1: write str(1)"),
        ("labels", {"A": 1}, "labels['A'] is int 1: write text"),
        ("metadata", None, "metadata must be a dict, not NoneType: None"),
        ("executor", 5, "executor is int 5: write the name of an executor"),
        ("executor", ["sha"], "executor is list ['sha']: write the name of an executor"),
        ("ok_exit_codes", [300], "ok_exit_codes[0] is int 300: an exit code is between 0 and 255"),
        ("binary_path", 5, "binary_path is int 5: write str(5)"),
    ],
)
def test_f1_a_task_that_was_changed_after_it_was_made_fails_alone(field: str, value: Any, problem: str) -> None:
    """`on_error` is asked about it; no program is started, and the others of the window run."""
    asked = []

    def arrange(records: list[Record], pending: object) -> list[ExecutorTask]:
        tasks = [record.task() for record in records]
        setattr(tasks[0], field, value)
        return tasks

    def on_error(task: ExecutorTask, error: Any) -> ErrorAction:
        asked.append((error.kind, error.reason))
        return ErrorAction.DLQ

    executor = ScriptedExecutor()
    outcome = run_flow(flow_of(arrange, on_error), ["x", "y"], executor=executor)
    assert asked == [("launch_failure", f"task input:0:0: {problem}")]
    assert executor.started == ["input:0:1"]
    assert len(outcome.dead_letters) == 1
    assert outcome.committed == {LANE: 2}


@pytest.mark.parametrize("task_id", [5, ["x"], None])
def test_f1_a_task_that_lost_its_id_fails_its_window(task_id: Any) -> None:
    """Nothing could be told of it; the partition goes on."""

    def arrange(records: list[Record], pending: object) -> list[ExecutorTask]:
        tasks = [record.task() for record in records]
        if records[0].offset == 0:
            tasks[0].task_id = task_id
        return tasks

    config = DrakkarConfig(executor={"window_size": 1})
    outcome = run_flow(flow_of(arrange), ["x", "y"], config=config)
    (letter,) = outcome.dead_letters
    assert f"not one whose task_id is {task_id!r} (" in letter.error
    assert outcome.committed == {LANE: 2}


def test_f1_a_task_that_on_error_changed_is_checked_before_it_runs_again() -> None:
    """A RETRY is a new start of it."""

    def on_error(task: ExecutorTask, error: Any) -> ErrorAction:
        if task.args:
            return ErrorAction.DLQ
        task.args.append(Path("x") if error.attempt > 1 else 3)  # type: ignore[arg-type]  # wrong on purpose
        return ErrorAction.RETRY

    flow = flow_of(lambda records, _: [record.task() for record in records], on_error)
    outcome = run_flow(flow, ["x"], executor=ScriptedExecutor({"input:0:0": 1}))
    assert [event.error.reason for event in outcome.of(TaskFailed)] == [
        "exit code 1",
        "task input:0:0: args[0] is int 3: write str(3)",
    ]


def test_n19_shares_of_one_record_make_tasks_with_different_ids() -> None:
    """`flat_map` divides a record, which has one offset."""
    flow = (
        StreamFlow("f")
        .decode(str)
        .flat_map(str.split)
        .arrange(lambda records, _: [record.task(args=[record.payload]) for record in records])
        .execute()
        .collect(lambda result: KafkaPayload(data=result.task.task_id))
        .route()
    )
    outcome = run_flow(flow, ["a b c"])
    assert sorted(outcome.values) == ["input:0:0", "input:0:0-2", "input:0:0-3"]
    assert not outcome.of(DuplicateTasks)


def test_f1_the_bytes_of_arguments_reach_the_program() -> None:
    """In the kit with real programs, as in the worker."""

    def arrange(records: list[Record], pending: object) -> list[ExecutorTask]:
        script = 'printf %s "$1" | od -An -tx1; printf %s "$A" | od -An -tx1; cat "$2"'
        return [
            record.task(
                args=["-c", script, "sh", b"\xff\xfe", Path(__file__)], binary_path=Path("/bin/sh"), env={"A": b"\xc3"}
            )
            for record in records
        ]

    flow = StreamFlow("f").arrange(arrange).execute().collect(lambda r: KafkaPayload(data=r.stdout)).route()
    with FlowHarness(flow, real_programs=True) as kit:
        kit.send("x")
        kit.wait_acknowledged()
        (value,) = kit.values
    assert value.startswith(' ff fe\n c3\n"""Wrong tasks in a flow')
