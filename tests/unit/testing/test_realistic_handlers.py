"""Handlers as users write them, tested as the page on testing tells them to."""

from __future__ import annotations

from typing import Any

import pytest

from drakkar_flow import (
    CollectResult,
    ErrorAction,
    ExecutorTask,
    Handler,
    KafkaPayload,
    PendingContext,
    PostgresPayload,
    periodic,
)
from drakkar_flow.model.assignment import AssignedPartition
from drakkar_flow.model.group import MessageGroup
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorResult
from drakkar_flow.observe.events.hooks import HookRan, PeriodicRan
from drakkar_flow.observe.events.sinks import SinkCircuitChanged
from drakkar_flow.observe.events.source import PartitionsAssigned, PartitionsRevoked
from drakkar_flow.observe.events.tasks import RetriesExhausted, TaskFinished, TaskRetried, WindowFinished
from drakkar_flow.testing import Answer, FlowHarness, MemorySink, ScriptedExecutor


class Batches(Handler[dict[str, Any], dict[str, Any]]):
    """A program for each window of orders; one summary row, and a message for each order."""

    async def arrange(self, messages: list[Record[dict[str, Any]]], pending: PendingContext) -> list[ExecutorTask]:
        stdin = "\n".join(m.payload["sku"] for m in messages)
        return [
            ExecutorTask(task_id=f"b{messages[0].offset}", source_offsets=[m.offset for m in messages], stdin=stdin)
        ]

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult:
        skus = str(result.task.stdin).split("\n")
        return CollectResult(
            kafka=[KafkaPayload(data={"sku": sku}, key=sku) for sku in skus],
            postgres=[PostgresPayload(table="batches", data={"orders": len(skus)})],
        )


BATCHES = {
    "executor": {"binary_path": "price", "window_size": 3, "window_linger_s": 5.0},
    "sinks": {"kafka": {"prices": {"topic": "prices"}}, "postgres": {"main": {"dsn": "postgresql://nowhere/none"}}},
}


def test_windows_close_when_they_are_full_or_have_lingered() -> None:
    """Three orders at once, the fourth 5 s later; each sink and each key is asked for by name."""
    with FlowHarness(Batches(), config=BATCHES) as kit:
        kit.send_all([{"sku": name} for name in ("tea", "milk", "tea")])
        kit.wait_for(lambda: kit.of(WindowFinished))
        kit.send({"sku": "jam"})
        kit.clock.advance(4.9)
        assert len(kit.of(WindowFinished)) == 1
        kit.wait_acknowledged()
        assert kit.clock.now == pytest.approx(5.0)
        assert [row.data for row in kit.payloads("postgres")] == [{"orders": 3}, {"orders": 1}]
        assert len(kit.payloads("kafka", "prices", key="tea")) == 2
        assert [task.stdin for task in kit.executor.calls] == ["tea\nmilk\ntea", "jam"]
        kit.check(committed={0: 4}, events={"WindowFinished": 2})


class Routes(Handler[dict[str, Any], dict[str, Any]]):
    """Two engines for each request; the answer is what the group came to."""

    async def arrange(self, messages: list[Record[dict[str, Any]]], pending: PendingContext) -> list[ExecutorTask]:
        return [
            ExecutorTask(task_id=f"{m.payload['id']}-{engine}", source_offsets=[m.offset], args=[engine])
            for m in messages
            for engine in ("fast", "thorough")
        ]

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
        if task.args == ["thorough"]:
            return [ExecutorTask(task_id=f"{task.task_id}-rough", source_offsets=task.source_offsets, args=["rough"])]
        return ErrorAction.RETRY

    async def on_message_complete(self, group: MessageGroup) -> KafkaPayload:
        answers = sorted(result.stdout for result in group.results)
        return KafkaPayload(data={"answers": answers, "replaced": group.replaced, "failed": group.failed})


def test_groups_count_replacements_and_retries_wait_on_the_clock() -> None:
    """The thorough engine fails and is replaced; the fast one works at the third attempt."""
    programs = ScriptedExecutor(strict=True)
    programs.on(args=["thorough"]).gives(Answer(exit_code=2, stderr="out of memory"))
    programs.on(args=["rough"]).gives("about 3")
    programs.on(args=["fast"]).gives(75, 75, "3")
    with FlowHarness(Routes(), executor=programs) as kit:
        kit.send({"id": "r"})
        kit.wait_acknowledged()
        assert kit.values == [{"answers": ["3", "about 3"], "replaced": 1, "failed": 0}]
        assert [event.attempt for event in kit.of(TaskRetried, task_id="r-fast")] == [1, 2]
        first, second, third = [
            at for task, at in zip(programs.calls, programs.times, strict=True) if task.args == ["fast"]
        ]
        assert 0 == first < second < third == kit.clock.now


def test_a_task_that_has_had_its_retries_is_told_of() -> None:
    """It is skipped, and the record is finished."""
    programs = ScriptedExecutor()
    programs.on(args=["fast"]).gives(75)
    with FlowHarness(Routes(), executor=programs, config={"executor": {"max_retries": 2}}) as kit:
        message = kit.send({"id": "r"})
        kit.wait_acknowledged()
        assert kit.of(RetriesExhausted)[0].attempts == 3
        assert (kit.values[0]["failed"], kit.letters(message=message)) == (1, [])


class Cached(Handler[str, str]):
    """Looks words up in a table that a periodic function renews, and that belongs to partitions."""

    def __init__(self) -> None:
        self.version = 0
        self.owned: set[int] = set()

    async def on_assign(self, partitions: list[AssignedPartition]) -> None:
        self.owned |= set(partitions)

    async def on_revoke(self, partitions: list[AssignedPartition]) -> None:
        self.owned -= set(partitions)

    @periodic(seconds=60)
    async def renew(self) -> None:
        self.version += 1
        if self.version == 2:
            raise OSError("the table is locked")

    async def arrange(self, messages: list[Record[str]], pending: PendingContext) -> list[ExecutorTask]:
        return [ExecutorTask(task_id=m.label, source_offsets=[m.offset], args=[str(self.version)]) for m in messages]

    async def on_task_complete(self, result: ExecutorResult) -> KafkaPayload:
        return KafkaPayload(data=result.task.args[0])


def test_periodic_functions_run_when_the_test_says_so() -> None:
    """One that raises goes on."""
    with FlowHarness(Cached()) as kit:
        for seconds in (0, 59, 1, 60, 60):
            kit.clock.advance(seconds)
            kit.wait_acknowledged(kit.send("word"))
        assert kit.values == ["0", "0", "1", "2", "3"]
        assert [event.error for event in kit.events if isinstance(event, PeriodicRan) and event.error]


def test_a_rebalance_is_told_to_the_hooks_and_on_the_bus() -> None:
    """Revoked, given back, and lost without being asked."""
    handler = Cached()
    with FlowHarness(handler, partitions=3) as kit:
        kit.wait_for(lambda: handler.owned == {0, 1, 2})
        kit.revoke(1)
        assert handler.owned == {0, 2}
        kit.send("later", partition=1)
        kit.assign(1)
        kit.wait_acknowledged()
        kit.lose(2)
        kit.wait_for(lambda: handler.owned == {0, 1})
        assert [(event.lost, event.total) for event in kit.of(PartitionsRevoked)] == [(False, 2), (True, 2)]
        assert [event.total for event in kit.of(PartitionsAssigned)] == [3, 3]
        assert len(kit.of(HookRan, hook="on_revoke")) == 2


def test_a_crash_in_the_middle_repeats_what_was_not_committed() -> None:
    """One of two is finished when the process dies; it was committed beyond, so that only the other comes again."""
    with FlowHarness(Cached()) as kit:
        kit.executor.gate("input:0:0").shut()
        slow, quick = kit.send_all(["slow", "quick"])
        kit.wait_acknowledged(quick)
        kit.crash()
        assert (slow.acknowledged, kit.running) == (False, False)
        kit.executor.gate("input:0:0").open()
        kit.restart()
        kit.wait_acknowledged()
        assert kit.executor.started == ["input:0:0", "input:0:1", "input:0:0"]
        kit.check(committed={0: 2}, deliveries={"kafka-out": ["0", "0"]})


BREAKER = {
    "executor": {"binary_path": "price"},
    "sinks": {
        "circuit_breaker": {"failure_threshold": 2, "cooldown_seconds": 30},
        "kafka": {"out": {"topic": "out", "retry": {"attempts": 1}}},
    },
}


def test_a_sink_that_is_down_opens_its_breaker_and_the_rest_becomes_dead_letters() -> None:
    """After the cool-down it is probed and used again."""
    down = MemorySink("out", script=[OSError("down"), OSError("down"), None])
    with FlowHarness(Cached(), config=BREAKER, sinks=[down]) as kit:
        messages = []
        for word in ("a", "b", "c"):
            messages.append(kit.send(word))
            kit.wait_acknowledged(messages[-1])
        assert [str(message.status) for message in messages] == ["dead"] * 3
        assert down.writes == 2
        assert [event.state for event in kit.of(SinkCircuitChanged)] == ["open"]
        assert [letter.attempts for letter in kit.letters(kind="sink", error="down")] == [1, 1, 0]
        assert kit.letters(message=messages[2])[0].attempts == 0
        kit.clock.advance(30)
        kit.wait_acknowledged(kit.send("d"))
        assert [event.state for event in kit.of(SinkCircuitChanged)] == ["open", "half_open", "closed"]
        kit.check(deliveries={"kafka-out": ["0"]}, dead_letters=3, committed={0: 4})


class Patient(Cached):
    """Goes on without an answer where there is none in time."""

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction:
        return ErrorAction.RETRY if error.kind == "timeout" else ErrorAction.DLQ


def test_scripted_programs_stand_in_for_a_persistent_pool() -> None:
    """A request that takes too long is a timeout there as well; the next attempt is answered."""
    programs = ScriptedExecutor({"input:0:0": [Answer(delay_s=60), "ok"]})
    config = {"executor": {"binary_path": "score", "mode": "persistent", "task_timeout_seconds": 20}}
    with FlowHarness(Patient(), executor=programs, config=config) as kit:
        kit.send("word")
        kit.wait_acknowledged()
        assert [event.kind for event in kit.of(TaskFinished)] == ["timeout", ""]
        assert programs.times[1] - programs.times[0] > 20
        kit.check(deliveries={"kafka-out": ["0"]}, events={"TasksStarted": 2})
