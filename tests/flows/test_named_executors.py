"""Several executors side by side: each by its name, with its own programs, slots, rules and metrics."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from drakkar_flow import (
    ErrorAction,
    ExecutorTask,
    Handler,
    KafkaPayload,
    Persistent,
    Record,
    StreamFlow,
    Subprocess,
)
from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.engine.executors import program_configs
from drakkar_flow.errors import ConfigError
from drakkar_flow.graph.nodes import Execute
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.executor import ExecutorBreakerChanged, HostShortage
from drakkar_flow.observe.events.tasks import TaskFailed, TaskFellBack, TaskFinished, TaskRetried, TasksCompleted
from drakkar_flow.observe.http.health import Health, readiness
from drakkar_flow.observe.metrics.prometheus import Metrics
from drakkar_flow.runtime.steps.waits import waits_of
from drakkar_flow.runtime.steps.windows import WindowRun
from drakkar_flow.testing import Answer, FlowHarness, ScriptedExecutor, run_flow

UPPER = "from drakkar_flow.worker import serve; serve(lambda task: task.stdin.upper())"
BOTH = {
    "executor": {
        "mode": "persistent",
        "binary_path": sys.executable,
        "persistent": {"args": ["-c", UPPER], "children": 1},
    },
    "executors": {"sha": {"binary_path": "sha256sum", "max_executors": 2}},
}


class Both(Handler):
    """Two programs for each record, in one hook."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    async def arrange(self, messages: list[Record], pending: Any) -> list[ExecutorTask]:
        tasks = []
        for message in messages:
            tasks.append(message.task(stdin=message.value))
            tasks.append(message.task(stdin=message.value, executor="sha"))
        return tasks

    async def on_task_complete(self, result: Any) -> Any:
        return KafkaPayload(data=[result.task.executor, result.stdout.split()[0]])

    async def on_error(self, task: ExecutorTask, error: Any) -> ErrorAction:
        self.failed.append(error.reason)
        return ErrorAction.DLQ


def expected(*values: str) -> list[list[str]]:
    """What both programs make of the values."""
    return sorted(
        pair for value in values for pair in (["", value.upper()], ["sha", hashlib.sha256(value.encode()).hexdigest()])
    )


def test_n6_a_warm_and_a_one_shot_program_run_in_one_handler() -> None:
    """Nothing falls back and nothing is warned of."""
    with FlowHarness(Both(), config=BOTH, real_programs=True) as kit:
        for value in ("a", "b", "c"):
            kit.send(value)
        kit.wait_acknowledged()
        outcome = kit.finish()
    assert sorted(outcome.values) == expected("a", "b", "c")
    assert not outcome.of(TaskFellBack)
    assert not outcome.of(TaskFailed)
    assert {event.executor_name for event in outcome.of(TaskFinished)} == {"sha"}
    assert {event.executor_name for event in outcome.of(TasksCompleted)} == {""}


def test_n6_a_flow_names_them_in_code() -> None:
    """With nothing in the configuration; the one without a name is the default."""
    handler = Both()
    flow = (
        StreamFlow("f")
        .arrange(handler.arrange)
        .execute(Persistent(sys.executable, ["-c", UPPER], children=1), Subprocess("sha256sum", name="sha"))
        .collect(handler.on_task_complete)
        .route()
    )
    with FlowHarness(flow, real_programs=True) as kit:
        kit.send("x")
        kit.wait_acknowledged()
        assert sorted(kit.values) == expected("x")
    assert "sha256sum" in str(flow.to_json())


def test_n6_the_flow_is_laid_over_the_configuration_by_name() -> None:
    """As for the default one; what the flow does not name is there as it is configured."""
    config = from_mapping(
        {
            "executor": {"binary_path": "cat", "max_executors": 3},
            "executors": {"sha": {"binary_path": "sha1sum", "max_executors": 2, "env": {"A": "1"}}, "other": {}},
        }
    )
    execute = Execute(named=(Subprocess("sha256sum", timeout_s=3, name="sha"), Persistent("jq", name="new")))
    configs = program_configs(config, execute)
    assert list(configs) == ["", "sha", "other", "new"]
    sha = configs["sha"]
    assert (sha.binary_path, sha.max_executors, sha.task_timeout_seconds, sha.env) == ("sha256sum", 2, 3, {"A": "1"})
    assert (configs["new"].mode, configs["new"].binary_path, configs["new"].max_executors) == ("persistent", "jq", 4)
    assert configs[""] == config.executor
    with pytest.raises(ConfigError, match=r"executors.new.persistent.childrn"):
        program_configs(config, Execute(named=(Persistent("jq", settings={"childrn": 1}, name="new"),)))


@pytest.mark.parametrize("name", ["shaa", "Sha", "sha "])
@pytest.mark.parametrize("real", [True, False], ids=["programs", "kit"])
def test_n6_an_unknown_name_fails_the_task_with_the_names_there_are(name: str, real: bool) -> None:
    """Before anything runs, and it alone."""

    class Mistaken(Both):
        async def arrange(self, messages: list[Record], pending: Any) -> list[ExecutorTask]:
            return [message.task(executor=name) for message in messages]

    handler = Mistaken()
    config = {"executor": {"binary_path": "cat"}, "executors": {"sha": {}, "warm": {}}}
    with FlowHarness(handler, config=config, real_programs=real) as kit:
        kit.send("x")
        kit.wait_acknowledged()
    told = f"task input:0:0: executor is {name!r}, which is not configured: write one of default, sha, warm"
    assert handler.failed == [told]
    (letter,) = kit.dead_letters
    assert told in letter.error


def test_n6_an_executor_without_a_program_says_where_to_set_it() -> None:
    """In its own section."""

    class Bare(Both):
        async def arrange(self, messages: list[Record], pending: Any) -> list[ExecutorTask]:
            return [message.task(executor="sha") for message in messages]

    handler = Bare()
    with FlowHarness(handler, config={"executors": {"sha": {}}}, real_programs=True) as kit:
        kit.send("x")
        kit.wait_acknowledged()
    (failed,) = handler.failed
    assert failed.startswith("no program to run: set executors.sha.binary_path in the configuration, ")
    assert failed.endswith("binary_path on the task, or its executor")


def test_n6_what_a_task_waits_for_names_its_executor() -> None:
    """In the report of what stands still."""
    window = WindowRun([Record("in", 0, 7)], 0.0, keep_messages=False)
    run = window.attribute(ExecutorTask(task_id="t", source_offsets=[7], executor="sha"))

    class Busy:
        open, step_id, calls = 1, "execute", [(None, run)]

    (wait,) = waits_of([Busy()], ("in", 0), 5)  # type: ignore[list-item]  # a fake of what is used
    assert wait.stack == ("task t, attempt 1, executor sha: waits for its turn or its next attempt",)


def test_n6_default_is_the_name_of_the_one_without_a_name() -> None:
    """A task may say it, with or without others."""

    class Named(Both):
        async def arrange(self, messages: list[Record], pending: Any) -> list[ExecutorTask]:
            return [message.task(stdin=message.value, executor="default") for message in messages]

    both: tuple[dict[str, Any], ...] = ({}, {"executors": {"sha": {}}})
    for more in both:
        with FlowHarness(Named(), config={"executor": {"binary_path": "cat"}, **more}, real_programs=True) as kit:
            kit.send("x")
            kit.wait_acknowledged()
        assert kit.values == [["default", "x"]]


def test_n6_each_has_its_own_rules_for_failures() -> None:
    """Retries and exit codes that succeed."""
    config = from_mapping(
        {
            "executor": {"max_retries": 0},
            "executors": {
                "flaky": {"max_retries": 2, "retry": {"retry_on": ["nonzero_exit"]}},
                "grep": {"ok_exit_codes": [0, 1]},
            },
        }
    )
    names = ["", "flaky", "grep"]
    flow = (
        StreamFlow("f")
        .arrange(lambda records, _: [record.task(executor=names[record.offset]) for record in records])
        .execute(on_error=lambda task, error: ErrorAction.RETRY)
        .collect(lambda result: KafkaPayload(data=[result.task.executor, result.exit_code]))
        .route()
    )
    executor = ScriptedExecutor({"input:0:0": 1, "input:0:1": [1, 1, 0], "input:0:2": 1})
    outcome = run_flow(flow, range(3), executor=executor, config=config)
    assert sorted(outcome.values) == [["flaky", 0], ["grep", 1]]
    assert len(outcome.of(TaskRetried)) == 2


def test_n6_the_kit_scripts_programs_by_the_name_of_their_executor() -> None:
    """And knows the program and the timeout of each."""
    config = {
        "executor": {"binary_path": "cat"},
        "executors": {"sha": {"binary_path": "sha256sum", "task_timeout_seconds": 5}},
    }
    handler = Both()
    executor = ScriptedExecutor(strict=True)
    late = Answer(stdout="late", delay_s=6)
    executor.on(executor="sha", binary="sha256sum", stdin="slow").gives(late)
    executor.on(executor="sha", binary="sha256sum").gives("ab12 -")
    executor.on(executor="default", binary="cat").gives("meow")
    with FlowHarness(handler, config=config, executor=executor) as kit:
        kit.send("x")
        kit.send("slow")
        kit.wait_acknowledged()
    assert sorted(kit.values) == [["", "meow"], ["", "meow"], ["sha", "ab12"]]
    assert len(handler.failed) == 1


def test_n6_a_yaml_case_scripts_them_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the key `executor`; output that is no text is given in base64."""
    from drakkar_flow.cli.main import main

    (tmp_path / "two.py").write_text(
        """
from drakkar_flow import KafkaPayload, StreamFlow, Subprocess

def arrange(records, pending):
    return [record.task(executor=name) for record in records for name in ("default", "zip")]

flow = (
    StreamFlow("two")
    .arrange(arrange)
    .execute(Subprocess("cat"), Subprocess("gzip", name="zip"))
    .collect(lambda result: KafkaPayload(data=result.stdout_bytes.hex()))
    .route()
)
"""
    )
    (tmp_path / "two.test.yaml").write_text(
        """
flow: two.py:flow
cases:
  - name: each program answers
    input: [x]
    executor:
      - {executor: zip, binary: gzip, stdout_base64: H4s=}
      - {executor: default, binary: cat, stdout: "a"}
    expect:
      deliveries: {kafka-out: ["61", "1f8b"]}
"""
    )
    with pytest.raises(SystemExit) as caught:
        main(["test", str(tmp_path / "two.test.yaml")])
    out, err = capsys.readouterr()
    assert caught.value.code in (0, None), out + err


def test_n6_metrics_have_the_name_as_a_label_and_the_default_one_has_none() -> None:
    """So the series of a flow with one executor are as they were."""
    registry = CollectorRegistry()
    metrics, bus = Metrics(registry), Bus()
    metrics.listen(bus)
    for name in ("", "sha"):
        bus.emit(TaskFinished("failed", "timeout", 1.0, 0.1, 0.01, executor_name=name))
        bus.emit(TasksCompleted((1.0, 2.0), (0.0, 0.0), name))
        bus.emit(ExecutorBreakerChanged("open", 5, "x", executor_name=name))
    for more in ({}, {"executor": "sha"}):
        value = registry.get_sample_value
        assert value("drakkar_executor_tasks_total", {"status": "completed", **more}) == 2
        assert value("drakkar_executor_tasks_total", {"status": "failed", **more}) == 1
        assert value("drakkar_executor_timeouts_total", more) == 1
        assert value("drakkar_executor_duration_seconds_count", more) == 3
        assert value("drakkar_executor_breaker_state", more) == 1


def test_n6_the_worker_is_ready_when_every_executor_is() -> None:
    """One that is back does not hide another that is not."""
    health, bus = Health(), Bus()
    health.listen(bus)
    bus.emit(ExecutorBreakerChanged("open", 5, "x", "oneshot", "a"))
    bus.emit(ExecutorBreakerChanged("open", 5, "x", "oneshot", "b"))
    bus.emit(ExecutorBreakerChanged("closed", 0, "x", "oneshot", "a"))
    assert health.snapshot.unavailable == {("b", "oneshot"): "x"}
    bus.emit(ExecutorBreakerChanged("closed", 0, "x", "oneshot", "b"))
    assert health.snapshot.unavailable == {}


@pytest.mark.parametrize("name", ["default", "a b", "a.b", ""])
def test_n6_names_that_can_not_be_are_refused(name: str) -> None:
    """Where they stand."""
    with pytest.raises(ConfigError, match="executors"):
        from_mapping({"executors": {name: {}}})


def test_the_host_shortage_of_one_executor_is_not_over_with_that_of_another() -> None:
    """The gauge has no executor among its labels: it is 1 while any of them lacks it."""
    bus, metrics = Bus(), Metrics(CollectorRegistry())
    metrics.listen(bus)
    labels = {"part": "executor", "lacks": "processes"}
    for name, over, value in (("", False, 1), ("b", False, 1), ("", True, 1), ("b", True, 0)):
        bus.emit(HostShortage("executor", "processes", "why", over=over, executor_name=name))
        assert metrics.registry.get_sample_value("drakkar_host_shortage", labels) == value


def test_the_details_of_readiness_name_the_executor() -> None:
    """Two of them may lack the same."""
    health, bus = Health(), Bus()
    health.listen(bus)
    for name in ("", "b", "c"):
        bus.emit(ExecutorBreakerChanged("open", 5, "can't start 'jq'", "oneshot", name))
    bus.emit(HostShortage("executor", "memory", "ENOMEM", executor_name="b"))
    _, answer = readiness(health.snapshot)
    assert answer["details"] == [
        "can't start 'jq'",
        "executor b: can't start 'jq'",
        "executor c: can't start 'jq'",
        "executor b: ENOMEM",
    ]
