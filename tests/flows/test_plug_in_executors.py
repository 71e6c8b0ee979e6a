"""Executors of plug-ins in flows: configured, named, and held to the protocol like the library's own."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from pydantic import BaseModel

from drakkar_flow import CustomExecutor, ExecutorResult, ExecutorTask, Handler, KafkaPayload, StreamFlow, dataflow
from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.engine.executors import make_executors, program_configs
from drakkar_flow.errors import ConfigError, ExecutorClosed
from drakkar_flow.executor.base import run
from drakkar_flow.graph.nodes import Execute
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.tasks import TaskFinished, TasksStarted
from drakkar_flow.plugins import Done, ExecutorError, ExecutorSetup, ExecutorSpec, ExecutorStatistics, Running
from drakkar_flow.testing import FlowHarness


class EchoConfig(BaseModel):
    """What it says."""

    prefix: str
    loud: bool = False


class Ended:
    """A task that was over as soon as it was submitted."""

    def cancel(self) -> None:
        """Nothing is left."""

    def state(self) -> str:
        """Over."""
        return "has ended"


class Echo:
    """Answers at once, in the way that `how` says."""

    def __init__(self, settings: EchoConfig, setup: ExecutorSetup) -> None:
        self.settings, self.setup, self.closed = settings, setup, False

    async def start(self) -> None:
        """Nothing to do."""

    def submit(self, task: ExecutorTask, priority: object, done: Done) -> Running:
        """Answer."""
        answer = ExecutorResult(task=task, stdout=f"{self.settings.prefix}{task.stdin}")  # type: ignore[str-bytes-safe]  # stdin is text here
        how = task.args[0] if task.args else ""
        if how == "twice":
            done(answer)
            done(None)
        elif how == "thread":
            threading.Thread(target=done, args=[answer]).start()
        elif how == "odd":
            done("text")  # type: ignore[arg-type]  # wrong on purpose
        elif how == "raise":
            raise RuntimeError("no")
        elif how == "fail":
            done(ExecutorError(task=task, exit_code=3))
        elif how == "drop":
            done(None)
        else:
            done(answer)
        return Ended()

    async def close(self) -> None:
        """Nothing to do."""
        self.closed = True

    def statistics(self) -> ExecutorStatistics:
        """Never at work."""
        return ExecutorStatistics(0, 0, self.setup.slots)


ECHO = ExecutorSpec("echo", EchoConfig, Echo)


class Say(Handler[str, str]):
    """One task for each record, by the executor that it names."""

    async def arrange(self, messages: Any, pending: Any) -> Any:
        """A task for each."""
        return [message.task(stdin=message.payload, executor=message.payload) for message in messages]

    async def on_task_complete(self, result: Any) -> Any:
        """What it said."""
        return KafkaPayload(data=result.stdout)


def test_it_is_the_mode_of_an_executor_and_of_named_ones() -> None:
    """With its own section beside what all executors have."""
    flow = dataflow(Say(), executors=[ECHO])
    config = {
        "executor": {"mode": "echo", "echo": {"prefix": "a "}},
        "executors": {"b": {"mode": "echo", "max_executors": 7, "echo": {"prefix": "b "}}},
    }
    with FlowHarness(flow, config=config, real_programs=True) as kit:
        kit.send("default")
        kit.send("b")
        kit.wait_acknowledged()
        assert sorted(kit.values) == ["a default", "b b"]


def test_a_flow_may_bring_it() -> None:
    """With its settings, over those of the configuration."""
    config = from_mapping({"executor": {"max_executors": 3, "task_timeout_seconds": 5}})
    execute = StreamFlow("f").arrange(list).execute(CustomExecutor(ECHO, {"prefix": "x"}, timeout_s=9)).find(Execute)
    settings: Any = program_configs(config, execute)[""]
    assert (settings.mode, settings.echo.prefix) == ("echo", "x")
    assert (settings.max_executors, settings.task_timeout_seconds) == (3, 9)


@pytest.mark.parametrize(
    ("executor", "problem"),
    [
        ({"mode": "echo"}, "config executor.echo.prefix: is missing; it has no default"),
        ({"mode": "echo", "echo": {"prefix": 3}}, "config executor.echo.prefix: must be text, not 3; quote it"),
        (
            {"mode": "echo", "echo": {"prefix": "", "prefiks": 3}},
            "config executor.echo.prefiks: unknown key; did you mean 'prefix'?",
        ),
        ({"mode": "ekho"}, "config executor.mode: must be one of 'oneshot', 'persistent' or 'echo', not 'ekho'"),
    ],
)
def test_its_settings_are_checked_with_their_place(executor: dict[str, Any], problem: str) -> None:
    """By the plug-in's own model."""
    dataflow(Say(), executors=[ECHO])
    with pytest.raises(ConfigError) as caught:
        from_mapping({"executor": executor})
    assert problem in str(caught.value)


def test_settings_in_code_are_checked() -> None:
    """With the step's section."""
    execute = StreamFlow("f").arrange(list).execute(CustomExecutor(ECHO, {"loud": "very"})).find(Execute)
    with pytest.raises(ConfigError, match=r"executor of the flow, echo.prefix: is missing"):
        program_configs(from_mapping({}), execute)


@pytest.fixture
def anyio_backend() -> str:
    """The loop of executors."""
    return "asyncio"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("how", "status", "kind"),
    [
        ("", "completed", ""),
        ("twice", "completed", ""),
        ("thread", "completed", ""),
        ("fail", "failed", "nonzero_exit"),
        ("odd", "failed", "internal"),
        ("drop", "cancelled", ""),
    ],
)
async def test_each_task_ends_once_whatever_it_does(how: str, status: str, kind: str) -> None:
    """On the loop's thread, with an event for its start and its end."""
    dataflow(Say(), executors=[ECHO])
    bus, seen = Bus(), list[Any]()
    bus.listen(TasksStarted, seen.append)
    bus.listen(TaskFinished, seen.append)
    config = from_mapping({"executor": {"mode": "echo", "echo": {"prefix": ""}}}).executor
    executor = make_executors({"": config}, bus)
    await executor.start()
    task = ExecutorTask(task_id="t", source_offsets=[0], stdin="hi", args=[how] if how else [])
    try:
        outcome = await run(executor, task)
    except ExecutorClosed:
        assert status == "cancelled"
    else:
        assert isinstance(outcome, ExecutorResult) == (status == "completed")
        assert isinstance(outcome, ExecutorResult) or outcome.executor == "echo"
    await asyncio.sleep(0)
    assert sum(event.count for event in seen if isinstance(event, TasksStarted)) == 1
    assert [(event.status, event.kind) for event in seen if isinstance(event, TaskFinished)] == [(status, kind)]
