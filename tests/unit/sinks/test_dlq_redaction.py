"""Dead letters hold no secrets of the worker."""

from __future__ import annotations

from typing import Any

import pytest

from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.model.outcome import Failure, FailureKind
from drakkar_flow.model.task import ExecutorError, ExecutorTask
from drakkar_flow.sinks.dead_letter_messages import dead_letter_messages
from drakkar_flow.sinks.dlq import redacted

CONFIG = DrakkarConfig(sinks={"postgres": {"a": {"dsn": "postgres://joe:s3cret-1@db"}}})


def test_a_letter_tells_of_a_failure_without_its_secrets() -> None:
    """In errors, stacks, stderr and arguments; the task's data and the caller's failure stay as they are."""
    task = ExecutorTask(task_id="t", source_offsets=[1], args=["--dsn", "postgres://joe:s3cret-1@db"], stdin="s3cret-1")
    error = ExecutorError(task=task, exit_code=1, stderr="no login with s3cret-1", command=["psql", "s3cret-1"])
    failure = Failure(
        kind=FailureKind.TASK, stage="collect", error="s3cret-1", tokens=(), stacktrace="at s3cret-1", task=error
    )
    (letter,) = dead_letter_messages(redacted(failure, CONFIG.redactor), 0.0)
    text = str(letter).replace('\\"stdin\\":\\"s3cret-1', "").replace('"stdin":"s3cret-1', "")
    assert "s3cret-1" not in text
    assert "********" in text
    assert (failure.error, error.stderr, task.args[1][-11:]) == ("s3cret-1", "no login with s3cret-1", "s3cret-1@db")


@pytest.mark.parametrize("args", [("s3cret-1",), [b"s3cret-1"], {"--login": "s3cret-1"}, "s3cret-1", [["s3cret-1"]]])
def test_arguments_of_another_type_are_redacted_too(args: Any) -> None:
    """A task with such arguments is refused, and its letter shows them."""
    task = ExecutorTask(task_id="t", source_offsets=[1])
    task.args = args
    error = ExecutorError(task=task, kind="launch_failure", exception="arguments are texts")
    failure = Failure(kind=FailureKind.TASK, stage="collect", error="arguments are texts", tokens=(), task=error)
    (letter,) = dead_letter_messages(redacted(failure, CONFIG.redactor), 0.0)
    assert "drakkar.task" in str(letter)
    assert "s3cret-1" not in str(letter)
