"""Tasks, results, records and ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

from drakkar_flow import (
    ExecutorError,
    ExecutorResult,
    ExecutorTask,
    MessageGroup,
    PendingContext,
    PrecomputedResult,
    SourceMessage,
    make_stable_task_id,
    make_task_id,
)


def right(message: SourceMessage[int], result: ExecutorResult, group: MessageGroup, pending: PendingContext) -> None:
    """What a handler reads and makes."""
    assert_type(message.payload, int)
    assert_type(message.key, bytes | None)
    assert_type(message.parse_error, str | None)
    assert_type(result.stdout, str)
    assert_type(result.spawn_seconds, float | None)
    assert_type(group.replaced, int)
    assert_type(group.all_succeeded, bool)
    assert_type(group.duration_seconds, float)
    assert_type(pending.pending_task_ids, set[str])
    task = ExecutorTask(
        task_id=make_task_id(),
        source_offsets=[message.offset],
        args=["-c"],
        stdin=b"x",
        precomputed=PrecomputedResult(stdout="x"),
    )
    assert_type(task.model_copy(update={"args": ["-l"]}), ExecutorTask)
    assert_type(ExecutorTask.model_validate({}), ExecutorTask)
    assert_type(make_stable_task_id("t", message.topic, message.offset), str)
    paths: list[Path] = []
    assert_type(
        message.task(args=["-c", Path("x"), b"y"], env={"A": Path("x"), "B": "c"}, executor="sha"), ExecutorTask
    )
    assert_type(message.task("id", args=paths, ok_exit_codes=[0, 1], labels={"a": "b"}).args, list[str])
    assert_type(ExecutorTask.for_records([message], args=("a", "b"), stdin=bytearray(b"x")), ExecutorTask)
    assert_type(result.stdout_bytes, bytes)
    assert_type(result.stderr_replaced, bool)


def bare(message: SourceMessage) -> None:
    """Without a type, the payload is anything."""
    assert_type(message.payload, Any)


def wrong(message: SourceMessage[int], error: ExecutorError) -> None:
    """What is missing, misspelt or of another type."""
    ExecutorTask(task_id="t")  # E: call-arg
    ExecutorTask(source_offsets=[1])  # E: call-arg
    ExecutorTask("t", [1])  # E: call-arg
    ExecutorTask(task_id=1, source_offsets=[1])  # E: arg-type
    ExecutorTask(task_id="t", source_offsets=["1"])  # E: list-item
    ExecutorTask(task_id="t", source_offsets=[message])  # E: list-item
    ExecutorTask(task_id="t", source_offsets=[1], args="-c x")  # E: arg-type
    ExecutorTask(task_id="t", source_offsets=[1], args=[1])  # E: list-item
    ExecutorTask(task_id="t", source_offsets=[1], stdin=5)  # E: arg-type
    ExecutorTask(task_id="t", source_offsets=[1], command="wc")  # E: call-arg
    ExecutorTask(task_id="t", source_offsets=[1], env={"A": 1})  # E: dict-item
    message.task(args="-c x")  # E: arg-type
    message.task(args=[1])  # E: list-item
    message.task(argv=["x"])  # E: call-arg
    message.task(source_offsets=[1])  # E: call-arg
    message.task(ok_exit_codes=1)  # E: arg-type
    message.task(executor=5)  # E: arg-type
    PrecomputedResult(exit_code="0")  # E: arg-type
    message.payload.upper()  # E: attr-defined
    print(error.exitcode)  # E: attr-defined
    print(error.kind == "timed_out")  # E: comparison-overlap
    make_task_id(5)  # E: arg-type
    make_stable_task_id("t", None)  # E: arg-type
