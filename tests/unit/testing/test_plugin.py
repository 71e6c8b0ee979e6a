"""The pytest plugin, as a test suite that has the package installed sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import pytest

from drakkar_flow import ExecutorTask, Handler, KafkaPayload, PendingContext, StreamFlow
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorResult
from drakkar_flow.testing import plugin
from drakkar_flow.testing.executor import ScriptedExecutor
from drakkar_flow.testing.harness import FlowHarness
from drakkar_flow.testing.sinks import MemorySink

pytest_plugins = ["pytester"]

FLOW = """
import asyncio
import sys

from drakkar_flow import ExecutorTask, Handler, KafkaPayload, StreamFlow

class Upper(Handler[str, str]):
    async def arrange(self, messages, pending):
        return [ExecutorTask(task_id=m.payload, source_offsets=[m.offset], stdin=m.payload) for m in messages]

    async def on_task_complete(self, result):
        return KafkaPayload(data=result.stdout)
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A suite of its own, in a process of its own; warnings are errors in it."""
    pytester.makeini("[pytest]\nfilterwarnings = error\naddopts = -p no:cacheprovider")
    return pytester


def test_the_kit_runs_a_handler_with_the_tests_executor_and_sinks(suite: pytest.Pytester) -> None:
    """Factory, executor and sinks play together; the flow ends with the test."""
    suite.makepyfile(
        FLOW
        + """
def test_it(drakkar_kit, drakkar_executor, memory_sink):
    drakkar_executor.script = {"a": "A"}
    kit = drakkar_kit(Upper(), sinks=[memory_sink("results", script=[OSError("down")])])
    message = kit.send("a")
    kit.wait_acknowledged(message)
    assert [payload.data for payload in kit.payloads("kafka", "results")] == ["A"]
    assert drakkar_executor.calls[0].stdin == "a"

def test_nothing_is_left():
    import threading
    assert [thread.name for thread in threading.enumerate() if "drakkar" in thread.name] == []
"""
    )
    suite.runpytest_subprocess().assert_outcomes(passed=2)


def test_a_test_that_fails_tells_what_the_flow_did(suite: pytest.Pytester) -> None:
    """A section of the report has what was sent, delivered, buried and told; one that passes has none."""
    suite.makepyfile(
        FLOW
        + """
def test_bad(drakkar_kit):
    kit = drakkar_kit(StreamFlow("numbers").decode(int).route())
    kit.send_all([1, "junk"])
    kit.wait_acknowledged()
    assert kit.values == [2]

def test_good(drakkar_kit):
    kit = drakkar_kit(StreamFlow("fine").decode(int).route())
    kit.send(1)
    kit.wait_acknowledged()
"""
    )
    result = suite.runpytest_subprocess("-rP")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*drakkar flow numbers*",
            "sent: 2",
            "  input:0:0 done",
            "  input:0:1 dead",
            "delivered to kafka-out: 1",
            "dead letters: 1",
            "  decode in decode: input:0:1: *",
            "committed: {('input', 0): 2}",
            "events: *",
        ]
    )
    result.stdout.no_fnmatch_line("*drakkar flow fine*")


def test_a_hook_that_breaks_the_flow_fails_the_test_at_its_end(suite: pytest.Pytester) -> None:
    """Though nothing was asserted."""
    suite.makepyfile(
        FLOW
        + """
def test_it(drakkar_kit):
    kit = drakkar_kit(StreamFlow("exit").map_async(leave).route())
    kit.send(1)
    kit.wait_for(lambda: kit.failure)

async def leave(value):
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    await asyncio.sleep(60)
"""
    )
    result = suite.runpytest_subprocess()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*the flow broke: SystemExit(3)*"])


@pytest.mark.parametrize(("brokers", "outcome"), [("", "skipped"), ("here:9092", "passed")])
def test_the_brokers_come_from_the_environment(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, brokers: str, outcome: str
) -> None:
    """Where there are none the test is skipped."""
    monkeypatch.setenv("DRAKKAR_TEST_KAFKA", brokers)
    suite.makepyfile("def test_it(drakkar_kafka):\n    assert drakkar_kafka == 'here:9092'\n")
    suite.runpytest_subprocess().assert_outcomes(**{outcome: 1})


def test_a_foreign_suite_does_not_pay_for_the_plugin(suite: pytest.Pytester) -> None:
    """Nothing heavy is imported while no fixture is used."""
    suite.makepyfile(
        """
import sys

def test_it(pytestconfig):
    assert pytestconfig.pluginmanager.hasplugin("drakkar_flow")
    heavy = {"bytewax", "confluent_kafka", "pydantic", "msgspec", "uvloop"}
    ours = {name for name in sys.modules if name.startswith("drakkar_flow")}
    assert heavy.isdisjoint(sys.modules)
    assert ours <= {"drakkar_flow", "drakkar_flow._version", "drakkar_flow.testing", "drakkar_flow.testing.plugin"}
"""
    )
    result = suite.runpytest_subprocess("-p", "no:hypothesispytest", "-p", "no:anyio", "-p", "no:cov")
    result.assert_outcomes(passed=1)


def echo() -> StreamFlow:
    """A flow that delivers text as it is."""
    return StreamFlow("echo").decode(str).route()


def test_flows_of_one_test_each_have_their_sinks(
    drakkar_kit: Callable[..., FlowHarness], memory_sink: Callable[..., MemorySink]
) -> None:
    """The fixtures in this process; a sink that is given stands in for the flow's."""
    down = memory_sink("out", script=[OSError("down")] * 3)
    first, second = drakkar_kit(echo(), sinks=[down]), drakkar_kit(echo())
    for kit in (first, second):
        kit.send("a")
        kit.wait_acknowledged()
    assert (first.values, len(first.letters(kind="sink")), second.values) == ([], 1, ["a"])


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_fixtures_work_in_async_tests(
    drakkar_kit: Callable[..., FlowHarness], drakkar_executor: ScriptedExecutor
) -> None:
    """They need no plugin for that, and the flow's loop is not the test's."""
    kit = drakkar_kit(Words())
    drakkar_executor.on(task_id="t-0").gives("seen")
    kit.send("a")
    kit.wait_acknowledged()
    assert (kit.values, asyncio.get_running_loop().time() > kit.clock.now) == (["seen"], True)


class Words(Handler[str, str]):
    """A task for each record; its output is delivered."""

    async def arrange(self, messages: list[Record[str]], pending: PendingContext) -> list[ExecutorTask]:
        return [ExecutorTask(task_id=f"t-{m.offset}", source_offsets=[m.offset]) for m in messages]

    async def on_task_complete(self, result: ExecutorResult) -> KafkaPayload:
        return KafkaPayload(data=result.stdout)


def test_only_a_test_that_failed_has_the_flows_story(
    drakkar_kit: Callable[..., FlowHarness], request: pytest.FixtureRequest
) -> None:
    """In a section of its report, by the name of the flow; not where it passed or was set up."""
    kit = drakkar_kit(echo())
    kit.send("a")
    kit.wait_acknowledged()

    def sections(
        when: Literal["setup", "call", "teardown"], outcome: Literal["passed", "failed", "skipped"]
    ) -> list[tuple[str, str]]:
        report = pytest.TestReport(request.node.nodeid, ("", 0, ""), {}, outcome, None, when)
        call: Any = None
        hook = plugin.pytest_runtest_makereport(request.node, call)
        next(hook)
        with pytest.raises(StopIteration):
            hook.send(report)
        return report.sections

    ((title, report),) = sections("call", "failed")
    assert title == "drakkar flow echo"
    assert "input:0:0 done" in report
    assert sections("call", "passed") == sections("setup", "failed") == []
