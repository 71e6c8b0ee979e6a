"""The harness: what a test sends, waits for, sees, crashes and restarts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from drakkar_flow import (
    CollectResult,
    ErrorAction,
    ExecutorTask,
    Handler,
    KafkaPayload,
    KafkaSource,
    PendingContext,
    Record,
    StreamFlow,
)
from drakkar_flow.errors import ConfigError, SinkError
from drakkar_flow.model.outcome import AckStatus
from drakkar_flow.model.task import ExecutorError, ExecutorResult
from drakkar_flow.observe.events.records import RecordsFinished
from drakkar_flow.testing import CRASH, FlowHarness, MemorySink, failed, run_flow, succeeded


class Naming(Handler):
    """One task per record, named by its value; each result is delivered."""

    async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        return [ExecutorTask(task_id=m.value.decode(), source_offsets=[m.offset]) for m in messages]

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult:
        return CollectResult(kafka=[KafkaPayload(data=result.task.task_id)])

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction:
        return ErrorAction.SKIP if error.exit_code == 1 else ErrorAction.DLQ


def seen() -> StreamFlow:
    """A flow that delivers what its records are."""

    def facts(payload: object, record: Record) -> list[object]:
        headers = [[name, value.decode()] for name, value in record.headers or []]
        key = record.key.decode() if record.key else None
        return [record.label, record.value.decode(), key, headers, record.timestamp, record.is_tombstone]

    return StreamFlow("seen", source=KafkaSource("orders")).map(facts, with_record=True).route()


class Order(BaseModel):
    """A message."""

    n: int


def test_a_message_arrives_with_everything_it_was_sent_with() -> None:
    """Value, key, headers, timestamp, partition and topic; without a topic it goes to the flow's."""
    with FlowHarness(seen(), partitions=2) as kit:
        sent = kit.send(Order(n=1), key="k", headers={"h": "v"}, timestamp=7, partition=1)
        kit.send(b"x", topic="other", partition=3, key=b"b", headers=[("a", b"1"), ("a", b"2")])
        kit.send(None, partition=0)
        kit.wait_acknowledged()
        assert (sent.topic, sent.partition, sent.offset, sent.label) == ("orders", 1, 0, "orders:1:0")
        assert sorted(kit.values) == [
            ["orders:0:0", "", None, [], -1, True],
            ["orders:1:0", '{"n":1}', "k", [["h", "v"]], 7, False],
            ["other:3:0", "x", "b", [["a", "1"], ["a", "2"]], -1, False],
        ]
        assert kit.committed == {("orders", 0): 1, ("orders", 1): 1, ("other", 3): 1}


def test_a_handle_tells_what_became_of_its_message() -> None:
    """done, skipped or dead, and None while it is open."""
    with FlowHarness(Naming()) as kit:
        kit.executor.gate("slow").shut()
        good, skipped, dead, slow = kit.send_all(["good", "skipped", "dead", "slow"])
        kit.executor.script = {"skipped": 1, "dead": 2}
        kit.wait_acknowledged(good, skipped, dead)
        assert [each.status for each in (good, skipped, dead, slow)] == ["done", "skipped", "dead", None]
        assert good.status is AckStatus.DONE
        assert not bool(slow.acknowledged)
        assert kit.committed == {("input", 0): 3}
        kit.executor.gate("slow").open()
        kit.wait_acknowledged()
        assert slow.acknowledged
        assert kit.committed == {("input", 0): 4}
        assert [letter.task and letter.task.task.task_id for letter in kit.dead_letters] == ["dead"]
        assert kit.values == ["good", "slow"]


def test_a_message_is_acknowledged_when_all_that_came_of_it_is() -> None:
    """A share that is still on its way keeps the handle open."""
    sinks = [MemorySink("fast"), MemorySink("slow")]
    sinks[1].gate.shut()
    with FlowHarness(StreamFlow("two").decode(int).flat_map(lambda n: [n, n]).route(), sinks=sinks) as kit:
        message = kit.send(1)
        kit.wait_for(lambda: kit.payloads("kafka", "fast") and sinks[1].gate.waiting)
        assert message.status is None
        sinks[1].gate.open()
        kit.wait_acknowledged(message)
        assert [len(kit.payloads("kafka", name)) for name in ("fast", "slow")] == [2, 2]


def test_a_wait_in_vain_names_the_open_messages_and_the_step_they_are_in() -> None:
    """What is acknowledged is not named."""
    with FlowHarness(Naming()) as kit:
        kit.executor.gate("stuck").shut()
        kit.send_all(["fine", "stuck"])
        with pytest.raises(AssertionError, match=r"not acknowledged: input:0:1; .*in flight: input:0 1.*execute 1"):
            kit.wait_acknowledged(timeout_s=0.2)


def test_a_wait_for_a_flow_that_failed_says_why_at_once() -> None:
    """Nobody waits for the timeout."""
    with FlowHarness(StreamFlow("fail").decode(int).map(lambda n: 1 // n).route(on_error="fail")) as kit:
        kit.send(0)
        with pytest.raises(AssertionError, match=r"the flow failed: .*division"):
            kit.wait_acknowledged(timeout_s=600)
        assert "division" in str(kit.failure)
        assert kit.committed == {}
    assert "division" in str(kit.failure)


def test_events_and_failures_are_kept_over_all_lives() -> None:
    """RecordsFinished of both lives; a failure is found with its step and label."""
    with FlowHarness(StreamFlow("n").decode(int).route()) as kit:
        kit.send("junk")
        kit.wait_acknowledged()
        kit.restart()
        kit.send(1)
        kit.wait_acknowledged()
        assert sum(event.done + event.dead for event in kit.of(RecordsFinished)) == 2
        assert [(each.kind, each.stage, each.label) for each in kit.failures] == [("decode", "decode", "input:0:0")]


def test_the_sinks_are_the_configurations() -> None:
    """A handler names none: those of the configuration are there, of every kind, and are asked for by name."""
    settings = {
        "sinks": {"kafka": {"a": {"topic": "t"}, "b": {"topic": "u"}}, "sqlite": {"db": {"path": "x.db"}}},
    }
    with FlowHarness(StreamFlow("n").decode(dict).route(), config=settings) as kit:
        kit.send({"n": 3})
        kit.wait_acknowledged()
        assert list(kit.deliveries) == ["kafka-a", "kafka-b", "sqlite-db"]
        assert kit.payloads("sqlite")[0].data == {"n": 3}
        with pytest.raises(AssertionError, match=r"2 sinks match 'kafka' ''; there are: kafka-a, kafka-b, sqlite-db"):
            kit.payloads("kafka")


def test_a_configuration_that_is_wrong_is_told_as_ever() -> None:
    """The same check as for a file."""
    with pytest.raises(ConfigError, match="did you mean 'window_size'"):
        FlowHarness(Naming(), config={"executor": {"windowsize": 1}})


# --- crash, restart, stop ---------------------------------------------------------------------------------


def test_a_crash_loses_nothing_and_repeats_what_was_not_committed() -> None:
    """In flight, delivered but uncommitted, not yet read: all of it comes, the second sort twice."""
    with FlowHarness(Naming(), config={"executor": {"window_size": 1}}) as kit:
        kit.send("committed")
        kit.wait_acknowledged()
        kit.hold_commits()
        delivered = kit.send("delivered")
        kit.wait_acknowledged(delivered)
        kit.executor.gate("running").shut()
        kit.send("running")
        kit.wait_for(lambda: "running" in kit.executor.started)
        kit.crash()
        assert not delivered.acknowledged
        assert kit.committed == {("input", 0): 1}
        kit.send("while it was down")
        kit.executor.gate("running").open()
        kit.restart()
        kit.wait_acknowledged()
        assert kit.values[:2] == ["committed", "delivered"]
        assert sorted(kit.values[2:]) == ["delivered", "running", "while it was down"]
        assert kit.committed == {("input", 0): 4}
        assert kit.failure is None


def test_a_crash_cuts_a_write_off_and_the_next_life_does_it_again() -> None:
    """What waits in a sink is not written; nothing of the old life comes after the crash."""
    sink = MemorySink()
    sink.gate.shut()
    with FlowHarness(Naming(), sinks=[sink]) as kit:
        kit.send("a")
        kit.wait_for(lambda: sink.gate.waiting)
        kit.crash()
        sink.gate.open()
        assert kit.values == []
        kit.restart()
        kit.wait_acknowledged()
        assert kit.values == ["a"]


@pytest.mark.usefixtures("eager_restarts")
def test_no_record_that_is_read_again_is_committed_before_the_next_crash() -> None:
    """However quick the flow is."""
    outcome = run_flow(StreamFlow("echo").decode(str).route(), ["a", CRASH, "b", CRASH, "c"])
    assert outcome.values == ["a", "a", "b", "a", "b", "c"]


def test_crashes_among_the_values_are_crashes_at_the_worst_moment() -> None:
    """All before it is done and nothing of it committed: everything since the last crash comes again."""
    outcome = run_flow(StreamFlow("echo").decode(str).route(), ["a", "b", CRASH, "c", CRASH, "d"])
    assert outcome.values == ["a", "b", "a", "b", "c", "a", "b", "c", "d"]
    assert outcome.committed == {("input", 0): 4}
    assert outcome.failure is None


def test_a_crash_does_not_repeat_what_is_known_to_be_finished_behind_a_slow_record() -> None:
    """As on a real broker, a commit tells what is finished beyond its offset; without that it comes again."""
    for told, repeated in ((3072, []), (0, ["b", "c"])):
        with FlowHarness(Naming(), config={"runtime": {"commit_metadata_bytes": told}}) as kit:
            kit.executor.gate("slow").shut()
            slow, b, c = kit.send_all(["slow", "b", "c"])
            kit.wait_acknowledged(b, c)
            kit.crash()
            assert [each.acknowledged for each in (slow, b, c)] == [False, bool(told), bool(told)]
            kit.executor.gate("slow").open()
            kit.restart()
            kit.wait_acknowledged()
            assert sorted(kit.values) == sorted(["b", "c", "slow", *repeated])
            assert kit.committed == {("input", 0): 3}


def test_a_flow_that_is_down_says_so() -> None:
    """Waiting for it is a mistake of the test."""
    with FlowHarness(Naming()) as kit:
        kit.crash()
        with pytest.raises(AssertionError, match=r"the flow is down: .* restart\(\)"):
            kit.wait_acknowledged()


def test_a_stop_drains_what_is_in_flight() -> None:
    """What was read is delivered and committed, and a restart begins behind it."""
    with FlowHarness(Naming()) as kit:
        kit.send_all("abc")
        kit.wait_for(lambda: kit.executor.started)
        kit.stop()
        assert kit.committed == {("input", 0): 3}
        kit.send("d")
        kit.restart()
        kit.wait_acknowledged()
        assert kit.values == ["a", "b", "c", "d"]


def test_a_revoked_partition_is_left_to_its_next_owner() -> None:
    """What is in flight of it is not delivered; given back it is read again, and the other partition went on."""
    with FlowHarness(Naming(), partitions=2, config={"executor": {"window_size": 1}}) as kit:
        kit.executor.gate("a").shut()
        a = kit.send("a", partition=0)
        kit.wait_for(lambda: kit.executor.started == ["a"])
        assert kit.revoke(0) == 1
        kit.executor.gate("a").open()
        kit.send("b", partition=1)
        kit.wait_acknowledged()
        assert (kit.values, a.acknowledged, kit.committed) == (["b"], False, {("input", 1): 1})
        kit.assign(0)
        kit.wait_acknowledged()
        assert (kit.values, a.acknowledged) == (["b", "a"], True)


def test_the_story_of_a_test_tells_everything() -> None:
    """What was sent, delivered, buried, committed, and every event."""
    sink = MemorySink(script=lambda payloads: None)
    with FlowHarness(StreamFlow("n").decode(int).route(), sinks=[sink]) as kit:
        kit.send_all([1, "junk"])
        kit.wait_acknowledged()
        report = kit.report()
    for part in (
        "input:0:0 done",
        "input:0:1 dead",
        "delivered to kafka-out: 1",
        "decode in decode: input:0:1",
        "RecordsFinished(",
    ):
        assert part in report


def test_leaving_the_block_early_leaves_nothing_behind() -> None:
    """Hooks that still wait are cancelled."""
    cancelled = []

    async def forever(n: int) -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(n)
            raise
        return n

    with FlowHarness(StreamFlow("n").decode(int).map_async(forever).route()) as kit:
        kit.send(5)
        kit.wait_for(lambda: kit.report().count("map_async-forever 1"))
    assert cancelled == [5]


def test_real_time_is_an_option() -> None:
    """Retries are then 1 ms apart; there is no clock to move."""
    sink = MemorySink(script=[SinkError("down")] * 2)
    with FlowHarness(Naming(), sinks=[sink], clock="real") as kit:
        kit.send("a")
        kit.wait_acknowledged()
        assert sink.writes == 3
        with pytest.raises(AssertionError, match="clock='real'"):
            _ = kit.clock


def test_a_script_may_be_changed_between_messages() -> None:
    """The next task ends as the new script says."""
    with FlowHarness(Naming()) as kit:
        kit.executor.script = lambda task: failed(task, 1)
        one = kit.send("one")
        kit.wait_acknowledged()
        kit.executor.script = lambda task: succeeded(task)
        two = kit.send("two")
        kit.wait_acknowledged()
        assert (one.status, two.status) == ("skipped", "done")


def test_real_programs_run_as_configured() -> None:
    """Their output, their exit codes, in real time; those that run at the end are killed."""

    class Shell(Naming):
        async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
            return [
                ExecutorTask(task_id=m.label, source_offsets=[m.offset], args=["-c", m.value.decode()])
                for m in messages
            ]

        async def on_task_complete(self, result: ExecutorResult) -> Any:
            return KafkaPayload(data=result.stdout)

    with FlowHarness(Shell(), real_programs=True, config={"executor": {"binary_path": "sh"}}) as kit:
        good, bad = kit.send_all(["printf hello", "exit 3"])
        kit.wait_acknowledged()
        assert (kit.values, good.status, bad.status) == (["hello"], "done", "dead")
        kit.send("sleep 600")
        kit.wait_for(lambda: "execute 1" in kit.report())
