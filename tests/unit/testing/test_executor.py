"""The scripted executor: how a test says what programs do, and sees what was asked of them."""

from __future__ import annotations

from typing import Any

import pytest

from drakkar_flow import ErrorAction, ExecutorTask, Handler, KafkaPayload, PendingContext
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorResult
from drakkar_flow.testing import Answer, FlowHarness, ScriptedExecutor


class Calling(Handler[dict[str, Any], str]):
    """A record is what its task looks like; what a task said is delivered, failed ones are tried again."""

    async def arrange(self, messages: list[Record[dict[str, Any]]], pending: PendingContext) -> list[ExecutorTask]:
        return [ExecutorTask(source_offsets=[m.offset], **{"task_id": m.label, **m.payload}) for m in messages]

    async def on_task_complete(self, result: ExecutorResult) -> KafkaPayload:
        return KafkaPayload(data=result.stdout)

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction:
        return ErrorAction.RETRY if error.kind == "nonzero_exit" else ErrorAction.DLQ


def said(executor: ScriptedExecutor, **task: Any) -> list[str]:
    """What the flow delivers for one task."""
    with FlowHarness(Calling(), executor=executor) as kit:
        kit.send(task)
        kit.wait_acknowledged()
        return kit.values


@pytest.mark.parametrize(
    ("rule", "task", "fits"),
    [
        ({"args": ["-c", "x"]}, {"args": ["-c", "x"]}, True),
        ({"args": ["-c", "*"]}, {"args": ["-c", "x"]}, True),
        ({"args": ["-c", "*"]}, {"args": ["-c"]}, False),
        ({"args": ["-c", "*"]}, {"args": ["-c", "x", "y"]}, False),
        ({"args": ["-c", "..."]}, {"args": ["-c", "x", "y"]}, True),
        ({"args": ["-c", "..."]}, {"args": ["-c"]}, True),
        ({"args": ["-c", "..."]}, {"args": []}, False),
        ({"binary": "grep"}, {"binary_path": "grep"}, True),
        ({"binary": "grep"}, {"binary_path": "cat"}, False),
        ({"stdin": "text"}, {"stdin": "text"}, True),
        ({"stdin": ""}, {}, True),
        ({"stdin": "text"}, {}, False),
        ({"task_id": "a", "args": []}, {"task_id": "a"}, True),
        ({"task_id": "a", "args": []}, {"task_id": "a", "args": ["x"]}, False),
        ({}, {"args": ["anything"]}, True),
    ],
)
def test_a_rule_is_for_the_tasks_of_which_all_of_it_is_true(
    rule: dict[str, Any], task: dict[str, object], fits: bool
) -> None:
    """Others end as if it were not there."""
    executor = ScriptedExecutor()
    executor.on(**rule).gives("yes")
    assert said(executor, **task) == ["yes" if fits else ""]


def test_a_rule_knows_the_programs_name_from_the_configuration() -> None:
    """A task that names no program runs the configured one."""
    executor = ScriptedExecutor()
    executor.on(binary="rg").gives("found")
    with FlowHarness(Calling(), executor=executor, config={"executor": {"binary_path": "rg"}}) as kit:
        kit.send({})
        kit.wait_acknowledged()
        assert kit.values == ["found"]


def test_a_task_fails_twice_and_then_succeeds() -> None:
    """One ending for each attempt of a task, whatever other tasks do; the last one stays."""
    executor = ScriptedExecutor()
    executor.on(args=["x"]).gives(1, Answer(exit_code=2, stderr="no"), "third time lucky")
    with FlowHarness(Calling(), executor=executor) as kit:
        kit.send({"args": ["x"]})
        kit.send({"args": ["x"]})
        kit.wait_acknowledged()
        assert kit.values == ["third time lucky"] * 2
        assert sorted(executor.started) == ["input:0:0"] * 3 + ["input:0:1"] * 3


def test_an_answer_takes_its_time_on_the_flows_clock() -> None:
    """A quarter of an hour is over at once, and was a quarter of an hour."""
    executor = ScriptedExecutor({"slow": Answer(stdout="done", delay_s=900)})
    with FlowHarness(Calling(), executor=executor, config={"executor": {"task_timeout_seconds": 1000}}) as kit:
        kit.send({"task_id": "slow"})
        kit.wait_acknowledged()
        assert (kit.values, kit.clock.now) == (["done"], 900)


def test_an_answer_that_takes_longer_than_a_task_may_is_a_timeout() -> None:
    """As the real executor ends it, at the configured time."""
    executor = ScriptedExecutor({"slow": Answer(stdout="done", delay_s=900)})
    with FlowHarness(Calling(), executor=executor, config={"executor": {"task_timeout_seconds": 60}}) as kit:
        kit.send({"task_id": "slow"})
        kit.wait_acknowledged()
        assert kit.clock.now == 60
        assert [letter.task and letter.task.kind for letter in kit.dead_letters] == ["timeout"]


def test_calls_are_the_tasks_as_they_were_handed_over() -> None:
    """Arguments, input and program of each attempt."""
    executor = ScriptedExecutor()
    said(executor, args=["-n"], stdin="in", binary_path="cat")
    (call,) = executor.calls
    assert (call.args, call.stdin, call.binary_path) == (["-n"], "in", "cat")


def test_a_strict_executor_fails_the_test_for_a_task_nobody_thought_of() -> None:
    """At once, with the task's id and command line."""
    executor = ScriptedExecutor({"known": ""}, strict=True)
    assert said(executor, task_id="known") == [""]
    with pytest.raises(AssertionError, match="no script for task t-9: grep -c x"):
        said(executor, task_id="t-9", binary_path="grep", args=["-c", "x"])


def test_an_ending_may_be_of_any_kind() -> None:
    """A program that can't be started, say, is a dead letter of that kind."""
    executor = ScriptedExecutor({"t": Answer(kind="launch_failure", stderr="no such file")})
    with FlowHarness(Calling(), executor=executor) as kit:
        kit.send({"task_id": "t"})
        kit.wait_acknowledged()
        (letter,) = kit.dead_letters
        assert letter.task is not None
        assert (letter.task.kind, letter.task.exit_code, letter.task.stderr) == ("launch_failure", None, "no such file")
