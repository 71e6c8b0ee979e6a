"""A failed task names what was run for it, and one that has not ended says where it is."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable

import pytest

from drakkar_flow.config.sections.limits import LimitsConfig
from drakkar_flow.executor.base import TaskOutcome, run
from drakkar_flow.executor.oneshot import OneshotExecutor
from drakkar_flow.model.task import ExecutorError, ExecutorTask

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[OneshotExecutor]]
Until = Callable[..., Awaitable[None]]


def bad(outcome: TaskOutcome) -> ExecutorError:
    """The outcome, which is a failure."""
    assert isinstance(outcome, ExecutorError)
    return outcome


def task(*args: str, binary_path: str | None = None) -> ExecutorTask:
    """A task of these arguments."""
    return ExecutorTask(task_id="t", source_offsets=[1], args=list(args), binary_path=binary_path)


@pytest.mark.parametrize("limits", [LimitsConfig(), LimitsConfig(open_files=64)], ids=["free", "limited"])
async def test_the_configured_program_is_named_as_it_was_found(make_executor: Make, limits: LimitsConfig) -> None:
    """By its path, with the task's arguments, and not the shell that sets its limits."""
    executor = await make_executor(binary_path="grep", limits=limits)
    error = bad(await run(executor, task("-q", "x", "/dev/null")))
    assert (error.exit_code, error.executor) == (1, "oneshot")
    assert error.command == [shutil.which("grep"), "-q", "x", "/dev/null"]


async def test_what_could_not_be_started_is_named_too(make_executor: Make) -> None:
    """By the name that was not found; without any there is nothing to name."""
    executor = await make_executor()
    assert bad(await run(executor, task("a", binary_path="nope-nowhere"))).command == ["nope-nowhere", "a"]
    assert bad(await run(executor, task("a"))).command == []


async def test_a_task_says_whether_it_waits_or_which_process_it_is(make_executor: Make, until: Until) -> None:
    """So that a program that hangs can be found."""
    executor = await make_executor(binary_path="sleep", max_executors=1)
    running, waiting = (executor.submit(task("600"), 0, lambda _: None) for _ in range(2))
    await until(lambda: running.state().startswith("runs as pid "))
    assert waiting.state().startswith("waits for a slot for ")
    running.cancel()
    waiting.cancel()
