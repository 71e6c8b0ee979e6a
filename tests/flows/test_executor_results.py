"""What comes back from executors: exit codes that succeed, bytes as they were written, in every kind of executor."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from drakkar_flow import (
    DrakkarConfig,
    ErrorAction,
    ExecutorResult,
    ExecutorTask,
    Handler,
    KafkaPayload,
    MessageGroup,
    Persistent,
    PrecomputedResult,
    Record,
    StreamFlow,
    Subprocess,
)
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.tasks import TaskFailed, TaskFinished, TasksCompleted
from drakkar_flow.observe.metrics.statistics import Statistics
from drakkar_flow.testing import Answer, FlowHarness, ScriptedExecutor, failed, run_flow, succeeded
from support.handlers import LANE

EXITS = """
import sys
from drakkar_flow.worker import Answer, serve
serve(lambda task: Answer(int(task.stdin), stdout="found"))
"""
GZIP = """
import subprocess
from drakkar_flow.worker import serve
serve(lambda task: subprocess.run(["gzip", "-nc"], input=task.stdin_bytes, stdout=-1).stdout, framing={!r})
"""
EVERY_BYTE = bytes(range(256)) * 40


def flow_of(program: Subprocess | Persistent, to_task: Callable[[Record], ExecutorTask]) -> StreamFlow:
    """Results as (exit code, stdout) of successes, dead letters of failures."""
    return (
        StreamFlow("f")
        .arrange(lambda records, _: [to_task(record) for record in records])
        .execute(program, on_error=lambda task, error: ErrorAction.DLQ)
        .collect(lambda result: KafkaPayload(data=[result.exit_code, result.stdout]))
        .route()
    )


def exit_with(record: Record, **fields: Any) -> ExecutorTask:
    """A task of `sh` that exits with the record's value."""
    return record.task(args=["-c", f"echo found; exit {record.value.decode()}"], **fields)


def ask_for(record: Record, **fields: Any) -> ExecutorTask:
    """A task of the long-lived child that does."""
    return record.task(stdin=record.value, **fields)


ONESHOT = (lambda **given: Subprocess("/bin/sh", **given), exit_with)
PERSISTENT = (lambda **given: Persistent(sys.executable, ["-c", EXITS], children=1, **given), ask_for)


def ran(flow: StreamFlow, *values: Any, **options: Any) -> FlowHarness:
    """The kit after real programs have ended."""
    with FlowHarness(flow, real_programs=True, **options) as kit:
        for value in values:
            kit.send(value)
        kit.wait_acknowledged()
    return kit


@pytest.mark.parametrize("mode", [ONESHOT, PERSISTENT], ids=["oneshot", "persistent"])
class TestExitCodes:
    """With real programs, one-shot and long-lived."""

    def test_n4_only_0_is_a_success_unless_said_otherwise(self, mode: Any) -> None:
        """As ever."""
        program, to_task = mode
        kit = ran(flow_of(program(), to_task), "0", "1")
        assert [value[0] for value in kit.values] == [0]
        assert len(kit.dead_letters) == 1

    def test_n4_the_flow_names_the_codes_that_succeed(self, mode: Any) -> None:
        """They come with the result; others fail."""
        program, to_task = mode
        kit = ran(flow_of(program(ok_exit_codes=[0, "1-2"]), to_task), "0", "1", "2", "3")
        assert sorted(value[0] for value in kit.values) == [0, 1, 2]
        assert {value[1].strip() for value in kit.values} == {"found"}
        (letter,) = kit.dead_letters
        assert "exit code 3" in letter.error

    def test_n4_0_is_a_success_only_where_it_is_listed(self, mode: Any) -> None:
        """The list is the whole truth."""
        program, to_task = mode
        kit = ran(flow_of(program(ok_exit_codes=[1]), to_task), "0", "1")
        assert [value[0] for value in kit.values] == [1]
        assert len(kit.dead_letters) == 1

    def test_n4_the_configuration_names_them_too(self, mode: Any) -> None:
        """The flow goes before it."""
        program, to_task = mode
        config = {"executor": {"ok_exit_codes": [0, 7]}}
        assert [value[0] for value in ran(flow_of(program(), to_task), "7", config=config).values] == [7]
        kit = ran(flow_of(program(ok_exit_codes=[0]), to_task), "7", config=config)
        assert (kit.values, len(kit.dead_letters)) == ([], 1)

    def test_n4_a_task_goes_before_both(self, mode: Any) -> None:
        """Its own list replaces theirs."""
        program, to_task = mode

        def mine(record: Record) -> ExecutorTask:
            made: ExecutorTask = to_task(record, ok_exit_codes=[3])
            return made

        kit = ran(flow_of(program(ok_exit_codes=[0, 1]), mine), "3", "1", config={"executor": {"ok_exit_codes": [7]}})
        assert [value[0] for value in kit.values] == [3]
        assert len(kit.dead_letters) == 1


@pytest.mark.parametrize("own", [True, False], ids=["task", "configuration"])
def test_n4_precomputed_results_follow_the_same_rule(own: bool) -> None:
    """And the kit's scripted programs."""

    def to_task(record: Record) -> ExecutorTask:
        given = PrecomputedResult(exit_code=int(record.value), stdout="known") if record.offset < 2 else None
        return record.task(precomputed=given, ok_exit_codes=[0, 1] if own else None)

    config = DrakkarConfig() if own else DrakkarConfig(executor={"ok_exit_codes": [0, 1]})
    executor = ScriptedExecutor({"input:0:2": 1, "input:0:3": Answer(exit_code=2)})
    outcome = run_flow(flow_of(Subprocess(), to_task), ["1", "2", "-", "-"], executor=executor, config=config)
    assert sorted(outcome.values) == [[1, ""], [1, "known"]]
    assert len(outcome.dead_letters) == 2
    assert {event.error.exit_code for event in outcome.of(TaskFailed)} == {2}


@pytest.mark.parametrize("fields", [{"stdout": 5}, {"stderr": None}, {"exit_code": "0"}])
def test_f1_a_precomputed_result_of_wrong_values_fails_its_task(fields: dict[str, Any]) -> None:
    """And no other; `on_error` is asked."""

    def to_task(record: Record) -> ExecutorTask:
        return record.task(precomputed=PrecomputedResult(**fields) if record.offset == 0 else PrecomputedResult())

    outcome = run_flow(flow_of(Subprocess(), to_task), ["a", "b"])
    assert outcome.values == [[0, ""]]
    (failure,) = outcome.of(TaskFailed)
    assert failure.error.kind == "internal"
    assert "precomputed must have text or bytes as stdout" in failure.error.reason


def test_n4_the_hooks_see_the_code_and_everything_counts_it_as_a_success() -> None:
    """Groups, events and statistics."""
    groups: list[MessageGroup] = []

    class Grep(Handler):
        async def arrange(self, messages: Any, pending: Any) -> list[ExecutorTask]:
            return [message.task() for message in messages]

        async def on_message_complete(self, group: MessageGroup) -> None:
            groups.append(group)

    config = DrakkarConfig(executor={"ok_exit_codes": [0, 1], "retry": {"exit_codes": [2], "retry_on": []}})
    executor = ScriptedExecutor({"input:0:0": 1, "input:0:1": [2, 1]})
    outcome = run_flow(Grep(), ["a", "b"], executor=executor, config=config)
    assert [[result.exit_code for result in group.results] for group in groups] == [[1], [1]]
    assert [group.failed for group in groups] == [0, 0]
    finished = [event.status for event in outcome.of(TaskFinished)]
    assert sorted(finished) == ["completed", "completed", "failed"]
    assert outcome.committed == {LANE: 2}


def test_n4_a_code_can_not_both_succeed_and_be_retried() -> None:
    """The configuration says so before anything starts, also where the flow names the codes."""
    with pytest.raises(ValidationError, match=r"ok_exit_codes and retry.exit_codes both name 75: a success is not"):
        DrakkarConfig(executor={"ok_exit_codes": [0, 75], "retry": {"exit_codes": ["70-78"]}})
    flow = flow_of(Subprocess("x", ok_exit_codes=[75]), exit_with)
    with pytest.raises(Exception, match="both name 75"):
        run_flow(flow, ["x"], config=DrakkarConfig(executor={"retry": {"exit_codes": [75]}}))


@pytest.mark.parametrize("codes", [[], ["x"], [256], [-1], ["3-1"]])
def test_n4_wrong_codes_are_refused(codes: list[Any]) -> None:
    """In the configuration and in a task."""
    with pytest.raises(ValidationError):
        DrakkarConfig(executor={"ok_exit_codes": codes})
    with pytest.raises(TypeError, match="task t: ok_exit_codes"):
        ExecutorTask(task_id="t", source_offsets=[], ok_exit_codes=codes)


def test_n17_a_task_that_was_given_up_is_no_completed_one() -> None:
    """It neither counts as one nor as a task that took no time."""
    statistics, bus = Statistics(), Bus()
    statistics.listen(bus)
    bus.emit(TaskFinished("cancelled", "", 0.0, 0.1, 0.0))
    bus.emit(TasksCompleted((2.0,), (0.0,)))
    now = statistics.snapshot()
    assert (now.totals.tasks_completed, now.totals.tasks_failed, now.totals.tasks_cancelled) == (1, 0, 1)
    assert now.task_p50_s > 1.0


# --- bytes ----------------------------------------------------------------------------------------

COMPRESSORS: dict[str, Subprocess | Persistent] = {
    "oneshot": Subprocess("gzip"),
    "json-lines": Persistent(sys.executable, ["-c", GZIP.format("json-lines")], children=1),
    "length-prefixed": Persistent(sys.executable, ["-c", GZIP.format("length-prefixed")], children=1),
}


@pytest.mark.parametrize("mode", COMPRESSORS)
@pytest.mark.parametrize(
    "data", [b"plain text", EVERY_BYTE, os.urandom(100_000), b""], ids=["text", "all", "much", "no"]
)
def test_n5_bytes_go_to_gzip_and_come_back_unchanged(mode: str, data: bytes) -> None:
    """With the real program; the text alone would have lost them."""
    results: list[ExecutorResult] = []
    program, args = COMPRESSORS[mode], ["-nc"] if mode == "oneshot" else []
    flow = (
        StreamFlow("f")
        .arrange(lambda records, _: [record.task(args=args, stdin=record.value) for record in records])
        .execute(program)
        .collect(lambda result: results.append(result) or KafkaPayload(data=result.stdout_bytes))  # type: ignore[func-returns-value]  # append returns nothing, so the right side is returned
        .route()
    )
    kit = ran(flow, data)
    (result,) = results
    assert gzip.decompress(result.stdout_bytes) == data
    assert result.stdout_replaced
    assert "\ufffd" in result.stdout
    assert not result.stdout_truncated
    assert [gzip.decompress(value) for value in kit.values] == [data]


def test_n5_stderr_and_failures_have_their_bytes_as_well() -> None:
    """A program that fails wrote what it wrote."""
    errors: list[Any] = []
    script = r"printf '\377out'; printf '\376err' >&2; exit 3"
    flow = (
        StreamFlow("f")
        .arrange(lambda records, _: [record.task(args=["-c", script]) for record in records])
        .execute(Subprocess("/bin/sh"), on_error=lambda task, error: errors.append(error) or ErrorAction.SKIP)  # type: ignore[func-returns-value]  # append returns nothing, so the right side is returned
        .collect()
        .route()
    )
    ran(flow, "x")
    (error,) = errors
    assert (error.stdout_bytes, error.stderr_bytes) == (b"\xffout", b"\xfeerr")
    assert (error.stdout_replaced, error.stderr_replaced) == (True, True)
    assert (error.stdout, error.stderr) == ("\ufffdout", "\ufffderr")


def test_n5_text_is_text_and_says_so() -> None:
    """Nothing is held twice."""
    (result,) = [succeeded(ExecutorTask(task_id="t", source_offsets=[]), "grün")]
    assert (result.stdout_bytes, result.stdout_replaced) == ("grün".encode(), False)
    assert result.raw_stdout is None


@pytest.mark.parametrize("mode", COMPRESSORS)
def test_n5_bytes_are_cut_at_the_cap_like_text(mode: str) -> None:
    """And flagged."""
    results: list[ExecutorResult] = []
    program, args = COMPRESSORS[mode], ["-nc"] if mode == "oneshot" else []
    flow = (
        StreamFlow("f")
        .arrange(lambda records, _: [record.task(args=args, stdin=record.value) for record in records])
        .execute(program)
        .collect(results.append)
        .route()
    )
    ran(flow, os.urandom(10_000), config={"executor": {"max_stdout_bytes": 1000}})
    (result,) = results
    assert result.stdout_truncated
    assert 990 <= len(result.stdout_bytes) <= 1000
    assert gzip.decompress(gzip.compress(result.stdout_bytes)) == result.stdout_bytes


def test_n5_filters_answer_with_bytes() -> None:
    """A line of anything but text."""
    results: list[ExecutorResult] = []
    flow = (
        StreamFlow("f")
        .arrange(lambda records, _: [record.task(stdin=record.value) for record in records])
        .execute(Persistent("cat", protocol="lines", children=1))
        .collect(results.append)
        .route()
    )
    ran(flow, b"\xff\xfe\x00")
    assert [(result.stdout_bytes, result.stdout_replaced) for result in results] == [(b"\xff\xfe\x00\n", True)]


def test_n5_the_kit_gives_bytes() -> None:
    """As an ending, in an answer, by its helpers, and precomputed."""
    raw = b"\x1f\x8b"
    executor = ScriptedExecutor(
        {"input:0:0": raw, "input:0:1": Answer(stdout=raw, stderr=raw), "input:0:2": Answer(stderr=raw, exit_code=1)}
    )
    task = ExecutorTask(task_id="t", source_offsets=[])
    assert succeeded(task, raw).stdout_bytes == failed(task, stderr=raw).stderr_bytes == raw

    def to_task(record: Record) -> ExecutorTask:
        return record.task(precomputed=PrecomputedResult(stdout=raw, stderr=raw) if record.offset == 3 else None)

    results: list[ExecutorResult] = []
    flow = (
        StreamFlow("f")
        .arrange(lambda records, _: [to_task(record) for record in records])
        .execute()
        .collect(results.append)
        .route()
    )
    outcome = run_flow(flow, range(4), executor=executor)
    assert {result.stdout_bytes for result in results} == {raw}
    assert sorted(result.stderr_bytes for result in results) == [b"", raw, raw]
    (failure,) = outcome.of(TaskFailed)
    assert failure.error.stderr_bytes == raw


def test_n5_a_result_without_text_is_dumped_and_copied_all_the_same() -> None:
    """The bytes go with a copy and stay out of JSON, as all that JSON can't hold."""
    result = succeeded(ExecutorTask(task_id="t", source_offsets=[]), b"\xff")
    assert '"stdout":"\ufffd"' in result.model_dump_json()
    assert result.model_copy(update={"exit_code": 1}).stdout_bytes == b"\xff"
