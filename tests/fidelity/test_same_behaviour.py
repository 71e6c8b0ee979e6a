"""What the kit shows is what happens: each behaviour once, on the kit and on the real runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from drakkar_flow import (
    CollectResult,
    DeliveryAction,
    ErrorAction,
    ExecutorTask,
    Handler,
    KafkaPayload,
    PendingContext,
    PrecomputedResult,
    StreamFlow,
)
from drakkar_flow.graph.nodes import ErrorPolicy
from drakkar_flow.model.group import MessageGroup
from drakkar_flow.model.payload import DeliveryError, Payload
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ErrorKind, ExecutorError, ExecutorResult
from support.runtimes import Runtime


def task(name: str, *offsets: int, script: str = "", **more: Any) -> ExecutorTask:
    """A task that runs a shell script, or without one is answered already."""
    if script:
        return ExecutorTask(task_id=name, source_offsets=list(offsets), args=["-c", script], **more)
    return ExecutorTask(task_id=name, source_offsets=list(offsets), precomputed=PrecomputedResult(stdout=name), **more)


class PerRecord(Handler[str, str]):
    """One answered task per record; its output is delivered."""

    async def arrange(self, messages: list[Record[str]], pending: PendingContext) -> list[ExecutorTask]:
        return [task(m.payload, m.offset) for m in messages]

    async def on_task_complete(
        self, result: ExecutorResult
    ) -> CollectResult | Payload | Sequence[CollectResult | Payload] | None:
        return KafkaPayload(data=result.stdout)


class Shell(PerRecord):
    """Each record is a shell script; its output is delivered."""

    async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        return [task(f"t{m.offset}", m.offset, script=m.payload) for m in messages]


# --- steps ----------------------------------------------------------------------------------------------


def test_steps_transform_filter_and_multiply(run: Callable[..., Runtime]) -> None:
    """decode, map, filter, flat_map, map_async; all is committed, also what was filtered out."""

    async def text(n: int) -> str:
        return str(n)

    flow = StreamFlow("steps").decode(int).filter(lambda n: n % 2).flat_map(lambda n: [n, -n]).map(lambda n: n * 2)
    runtime = run(flow.map_async(text, max_in_flight=1).route())
    runtime.send("1", "2", "3")
    runtime.settle()
    assert runtime.values == [2, -2, 6, -6]
    assert runtime.committed == {0: 3}


def test_plain_values_keep_their_records_key(run: Callable[..., Runtime]) -> None:
    """And a tombstone is a record."""
    flow = StreamFlow("keys").map(lambda _, record: [record.offset, record.is_tombstone], with_record=True).route()
    runtime = run(flow)
    runtime.send("a", key="k")
    runtime.send(None)
    runtime.settle()
    assert (runtime.values, runtime.keys) == ([[0, False], [1, True]], ["k", None])


def test_partitions_are_committed_each_for_itself(run: Callable[..., Runtime]) -> None:
    """And keep their order."""
    runtime = run(StreamFlow("parts").decode(int).route(), partitions=3)
    for partition in (0, 2):
        runtime.send(*(str(100 * partition + n) for n in range(5)), partition=partition)
    runtime.settle()
    assert runtime.committed == {0: 5, 2: 5}
    values = runtime.values
    assert [value for value in values if value < 100] == [0, 1, 2, 3, 4]
    assert [value for value in values if value >= 100] == [200, 201, 202, 203, 204]


@pytest.mark.parametrize(("policy", "buried"), [("dlq", 1), ("skip", 0)])
def test_what_can_not_be_decoded_follows_its_policy(
    policy: ErrorPolicy, buried: int, run: Callable[..., Runtime]
) -> None:
    """A dead letter has the bytes, the step and the place."""
    runtime = run(StreamFlow("junk").decode(int, on_error=policy).route())
    runtime.send("1", "junk", "2")
    runtime.settle()
    assert runtime.values == [1, 2]
    assert [(each.value, each.stage, each.offset) for each in runtime.letters] == [("junk", "decode", "1")] * buried
    assert runtime.committed == {0: 3}


def test_a_failure_that_is_fatal_stops_the_flow_and_keeps_the_offset(run: Callable[..., Runtime]) -> None:
    """The next life meets it again."""
    runtime = run(StreamFlow("fatal").decode(int).map(lambda n: 1 // n).route(on_error="fail"))
    runtime.send("0")
    runtime.until_failed()
    assert "division" in str(runtime.stop())
    assert runtime.committed == {}
    assert (runtime.values, runtime.letters) == ([], [])


def test_a_function_that_raises_makes_a_dead_letter(run: Callable[..., Runtime]) -> None:
    """Of its record alone."""
    runtime = run(StreamFlow("raising").decode(int).map(lambda n: 6 // n, name="divide").route())
    runtime.send("3", "0", "2")
    runtime.settle()
    assert runtime.values == [2, 3]
    assert [(each.value, each.stage) for each in runtime.letters] == [(0, "map-divide")]


# --- windows, fan-out, fan-in ---------------------------------------------------------------------------


def test_full_windows_are_cut_at_their_size_and_the_rest_lingers(run: Callable[..., Runtime]) -> None:
    """Seven records in windows of three; each window completes with all of its records."""

    class Windows(PerRecord):
        async def on_task_complete(self, result: ExecutorResult) -> None:
            return None

        async def on_window_complete(
            self, results: list[ExecutorResult], source_messages: list[Record]
        ) -> KafkaPayload:
            return KafkaPayload(data=[m.offset for m in source_messages])

    settings = {"binary_path": "sh", "window_size": 3, "window_linger_s": 1.0}
    runtime = run(Windows(), executor=settings)
    runtime.send(*"abcdefg")
    runtime.settle()
    assert runtime.values == [[0, 1, 2], [3, 4, 5], [6]]


def test_a_record_may_have_many_tasks_and_a_task_many_records(run: Callable[..., Runtime]) -> None:
    """Fan-out and fan-in: what each record had is told once, when its last task has ended."""

    class Fans(PerRecord):
        async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
            own = [task(f"{m.payload}{n}", m.offset) for m in messages for n in range(2)]
            return [*own, task("all", *(m.offset for m in messages))]

        async def on_message_complete(self, group: MessageGroup) -> KafkaPayload:
            return KafkaPayload(data=[group.source_message.offset, group.total, group.succeeded])

    runtime = run(Fans(), executor={"binary_path": "sh", "window_size": 2, "window_linger_s": 5.0})
    runtime.send("a", "b")
    runtime.settle()
    told = [value for value in runtime.values if isinstance(value, str)]
    assert sorted(told) == ["a0", "a1", "all", "b0", "b1"]
    assert sorted(value for value in runtime.values if isinstance(value, list)) == [[0, 3, 3], [1, 3, 3]]


def test_a_record_without_tasks_completes_empty(run: Callable[..., Runtime]) -> None:
    """It is committed at once; no window completes."""

    class Nothing(PerRecord):
        async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
            return []

        async def on_message_complete(self, group: MessageGroup) -> KafkaPayload:
            return KafkaPayload(data=["empty", group.is_empty])

        async def on_window_complete(
            self, results: list[ExecutorResult], source_messages: list[Record]
        ) -> KafkaPayload:
            return KafkaPayload(data="window")

    runtime = run(Nothing())
    runtime.send("a")
    runtime.settle()
    assert runtime.values == [["empty", True]]


def test_hooks_run_from_the_task_to_the_record_to_the_window(run: Callable[..., Runtime]) -> None:
    """In this order, and the payloads arrive in it."""

    class Order(PerRecord):
        async def on_message_complete(self, group: MessageGroup) -> KafkaPayload:
            return KafkaPayload(data="message")

        async def on_window_complete(
            self, results: list[ExecutorResult], source_messages: list[Record]
        ) -> KafkaPayload:
            return KafkaPayload(data="window")

    runtime = run(Order())
    runtime.send("task")
    runtime.settle()
    assert runtime.values == ["task", "message", "window"]


# --- tasks that fail ------------------------------------------------------------------------------------


class Deciding(Shell):
    """Decides about failed tasks as it is told; what a record came to is delivered."""

    def __init__(self, decide: Callable[[ExecutorTask, ExecutorError], ErrorAction | list[ExecutorTask]]) -> None:
        self.decide = decide

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
        return self.decide(task, error)

    async def on_message_complete(self, group: MessageGroup) -> KafkaPayload:
        return KafkaPayload(data=[group.succeeded, group.failed, group.replaced])


def test_a_failed_task_is_tried_again(run: Callable[..., Runtime], tmp_path: Path) -> None:
    """It fails twice and then succeeds: the record had one task, which succeeded."""
    count = tmp_path / "count"
    runtime = run(Deciding(lambda task, error: ErrorAction.RETRY))
    runtime.send(f"echo >> {count}; test $(wc -l < {count}) -ge 3 && printf done")
    runtime.settle()
    assert runtime.values == ["done", [1, 0, 0]]
    assert count.read_text().count("\n") == 3


def test_a_task_that_goes_on_failing_is_skipped_after_its_retries(run: Callable[..., Runtime], tmp_path: Path) -> None:
    """max_retries of 3 make four attempts."""
    count = tmp_path / "count"
    runtime = run(Deciding(lambda task, error: ErrorAction.RETRY))
    runtime.send(f"echo >> {count}; exit 1")
    runtime.settle()
    assert runtime.values == [[0, 1, 0]]
    assert count.read_text().count("\n") == 4
    assert (runtime.letters, runtime.committed) == ([], {0: 1})


def test_a_failed_task_may_become_a_dead_letter(run: Callable[..., Runtime]) -> None:
    """With the record's value and the program's exit code; other records go on."""
    runtime = run(Deciding(lambda task, error: ErrorAction.DLQ if error.exit_code == 7 else ErrorAction.SKIP))
    runtime.send("exit 7", "exit 8", "printf fine")
    runtime.settle()
    assert [(each.value, each.offset, each.exit_code) for each in runtime.letters] == [("exit 7", "0", 7)]
    assert sorted(map(str, runtime.values)) == ["[0, 1, 0]", "[0, 1, 0]", "[1, 0, 0]", "fine"]
    assert runtime.committed == {0: 3}


def test_a_failed_task_may_be_replaced(run: Callable[..., Runtime]) -> None:
    """The record waits for the replacement, and counts it instead."""

    def decide(failed: ExecutorTask, error: ExecutorError) -> list[ExecutorTask]:
        return [task("again", *failed.source_offsets, script="printf replaced")]

    runtime = run(Deciding(decide))
    runtime.send("exit 1")
    runtime.settle()
    assert runtime.values == ["replaced", [1, 0, 1]]


def test_a_program_that_takes_too_long_is_a_timeout(run: Callable[..., Runtime]) -> None:
    """on_error hears of it as one."""

    class Told(Shell):
        async def on_error(self, failed: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
            return [task(error.kind, *failed.source_offsets)]

    runtime = run(Told(), executor={"binary_path": "sh", "task_timeout_seconds": 1, "kill_grace_s": 0.1})
    runtime.send("sleep 60")
    runtime.settle()
    assert runtime.values == ["timeout"]


@pytest.mark.parametrize("kind", ["launch_failure", "signal"])
def test_the_kind_of_a_failure_is_the_same(kind: ErrorKind, run: Callable[..., Runtime]) -> None:
    """A program that is not there; one that was killed."""

    class Told(Shell):
        async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
            path = "/no/such/program" if kind == "launch_failure" else None
            return [task("t", m.offset, script="kill -9 $$", binary_path=path) for m in messages]

        async def on_error(self, failed: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
            return [task(error.kind, *failed.source_offsets)]

    runtime = run(Told())
    runtime.send("x")
    runtime.settle()
    assert runtime.values == [kind]


# --- hooks and sinks that fail --------------------------------------------------------------------------


def test_a_hook_that_raises_costs_its_own_record(run: Callable[..., Runtime]) -> None:
    """arrange: the window's; on_task_complete: the task's."""

    class Raising(PerRecord):
        async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
            if messages[0].payload == "arrange":
                raise ValueError("no")
            return await super().arrange(messages, pending)

        async def on_task_complete(
            self, result: ExecutorResult
        ) -> CollectResult | Payload | Sequence[CollectResult | Payload] | None:
            if result.stdout == "collect":
                raise ValueError("no")
            return await super().on_task_complete(result)

    runtime = run(Raising(), executor={"binary_path": "sh", "window_size": 1})
    runtime.send("arrange", "collect", "fine")
    runtime.settle()
    assert runtime.values == ["fine"]
    assert sorted((each.value, each.stage) for each in runtime.letters) == [
        ("arrange", "arrange"),
        ("collect", "collect-on_task_complete.on_task_complete"),
    ]
    assert runtime.committed == {0: 3}


def test_a_payload_for_no_sink_is_a_dead_letter(run: Callable[..., Runtime]) -> None:
    """What the same hook sent elsewhere is delivered."""

    class Lost(PerRecord):
        async def on_task_complete(self, result: ExecutorResult) -> CollectResult | None:
            return CollectResult(kafka=[KafkaPayload(data="lost", sink="nowhere"), KafkaPayload(data="found")])

    runtime = run(Lost())
    runtime.send("a")
    runtime.settle()
    assert runtime.values == ["found"]
    assert [(each.value, each.offset) for each in runtime.letters] == [("a", "0")]


class Unwritable(PerRecord):
    """Its second payload can't be written as JSON."""

    async def on_task_complete(self, result: ExecutorResult) -> list[KafkaPayload]:
        return [KafkaPayload(data=result.stdout), KafkaPayload(data=object())]


def test_a_payload_that_can_not_be_written_is_a_dead_letter_at_once(run: Callable[..., Runtime]) -> None:
    """After one attempt, with the sink's name and the reason."""
    runtime = run(Unwritable())
    runtime.send("a")
    runtime.settle()
    assert runtime.values == ["a"]
    (letter,) = runtime.letters
    assert (letter.value["sink_type"], letter.value["sink_name"], letter.value["attempt_count"]) == ("kafka", "out", 1)
    assert letter.value["error"].startswith("the payload can't be encoded: TypeError")
    assert letter.stage == "sink-kafka-out"


def test_on_delivery_error_may_skip_what_can_not_be_written(run: Callable[..., Runtime]) -> None:
    """No letter then, and the record is committed."""

    class Skipping(Unwritable):
        async def on_delivery_error(self, error: DeliveryError) -> DeliveryAction:
            return DeliveryAction.SKIP

    runtime = run(Skipping())
    runtime.send("a")
    runtime.settle()
    assert (runtime.values, runtime.letters, runtime.committed) == (["a"], [], {0: 1})


# --- lives ----------------------------------------------------------------------------------------------


def test_a_flow_that_was_stopped_goes_on_where_it_ended(run: Callable[..., Runtime]) -> None:
    """Nothing is lost and nothing comes twice, whatever was sent while it was down."""
    runtime = run(PerRecord())
    runtime.send("a", "b")
    runtime.settle()
    assert runtime.stop() is None
    runtime.send("c")
    runtime.start(PerRecord())
    runtime.send("d")
    runtime.settle()
    assert runtime.values == ["a", "b", "c", "d"]
    assert runtime.committed == {0: 4}


def test_a_record_that_stopped_the_flow_comes_again_and_what_was_finished_behind_it_does_not(
    run: Callable[..., Runtime],
) -> None:
    """In the next life, with a better function; the other record is delivered once."""
    other = asyncio.Event()

    async def divide(n: int) -> int:
        if n:
            other.set()
        else:
            await other.wait()
        return 1 // n

    runtime = run(StreamFlow("bad").decode(int).map_async(divide, name="f").route(on_error="fail"))
    runtime.send("0", "1")
    runtime.until_failed()
    assert runtime.committed == {}
    runtime.stop()
    runtime.start(StreamFlow("good").decode(int).map(lambda n: 1 // (n or 1), name="f").route())
    runtime.settle()
    assert runtime.values == [1, 1]
    assert runtime.committed == {0: 2}
