"""Revoked partitions: what is in flight of them is neither delivered nor committed afterwards."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from drakkar_flow import CollectResult, ExecutorTask, Handler, KafkaPayload, PendingContext, StreamFlow, Window
from drakkar_flow.errors import SinkError
from drakkar_flow.model.group import MessageGroup
from drakkar_flow.model.outcome import Failure
from drakkar_flow.model.payload import DeliveryError
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorResult
from drakkar_flow.testing import FakeClock, FlowRun, MemoryDeadLetters, MemorySink, ScriptedExecutor
from support.until import until

FIRST, SECOND = ("input", 0), ("input", 1)


class Naming(Handler[int, int]):
    """One task per record, named after the record."""

    async def arrange(self, messages: list[Record[int]], pending: PendingContext) -> list[ExecutorTask]:
        return [ExecutorTask(task_id=f"{m.partition}:{m.offset}", source_offsets=[m.offset]) for m in messages]

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult:
        return CollectResult(kafka=[KafkaPayload(data=result.task.task_id)])


def drained(run: FlowRun) -> None:
    """Wait until nothing of the revoked partition is in flight any more."""
    run.wait_until(lambda: run.in_flight.records == 0)
    assert not run.in_flight.has_fences


def test_what_waits_for_its_window_is_dropped() -> None:
    """A window of a revoked partition is not arranged; the other partition's is, and assignments never mix."""
    arranged = []

    def arrange(records: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        arranged.append([record.label for record in records])
        return []

    flow = StreamFlow("linger").arrange(arrange, window=Window(size=3, linger_s=600)).execute().collect().route()
    with FlowRun(flow, [0, 1], partitions=2, open_end=True) as run:
        run.wait_until(lambda: run.in_flight.records == 2)
        run.reader.revoke([FIRST])
        run.reader.put([2, 3, 4, 5])  # FIRST gets none yet: it is not assigned
        run.wait_until(lambda: run.reader.committed == {SECOND: 3})
        assert arranged == [["input:1:0", "input:1:1", "input:1:2"]]
        run.reader.assign([FIRST])
        run.wait_until(lambda: run.reader.committed == {FIRST: 3, SECOND: 3})
        drained(run)
    assert arranged[1:] == [["input:0:0", "input:0:1", "input:0:2"]]


def test_a_window_never_mixes_two_assignments() -> None:
    """An old record and just enough new ones for a window: the old one is dropped, the new ones wait for more."""
    arranged = []

    def arrange(records: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        arranged.append([(record.offset, record.epoch) for record in records])
        return []

    flow = StreamFlow("mix").arrange(arrange, window=Window(size=3, linger_s=600)).execute().collect().route()
    with FlowRun(flow, [0], open_end=True) as run:
        run.wait_until(lambda: run.in_flight.records == 1)
        run.reader.revoke()
        run.reader.put([1])
        run.reader.assign()
        run.wait_until(lambda: run.reader.statistics().queued == {FIRST: 0} and not run.in_flight.has_fences)
        run.reader.put([2])
        run.wait_until(lambda: run.reader.committed == {FIRST: 3})
    assert arranged == [[(0, 2), (1, 2), (2, 2)]]


def test_new_records_behind_dropped_ones_get_their_own_linger() -> None:
    """The timer of a dropped record starts the next one's: no record waits for ever."""
    flow = StreamFlow("own").arrange(lambda records, _: [], window=Window(size=9, linger_s=5)).execute().collect()
    with FlowRun(flow.route(), [0], open_end=True, clock=FakeClock()) as run:
        until(lambda: run.in_flight.records == 1, what="the record to linger; the clock stands")
        run.reader.revoke()
        run.reader.assign()
        run.wait_until(lambda: run.reader.committed == {FIRST: 1})


def test_what_waits_behind_a_slow_arrange_is_dropped() -> None:
    """The window behind the running one is not arranged, and the running one's tasks are not run."""
    gate = asyncio.Event()
    arranged = []

    async def arrange(records: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        arranged.append([record.offset for record in records])
        if len(arranged) == 1:
            await gate.wait()
        return [ExecutorTask(task_id="t", source_offsets=[records[0].offset])]

    flow = StreamFlow("slow").arrange(arrange, window=Window(size=1)).execute().collect().route()
    executor = ScriptedExecutor()
    with FlowRun(flow, [0, 1, 2], executor=executor, open_end=True) as run:
        run.wait_until(lambda: arranged)
        assert run.reader.revoke() == 3
        run.call(gate.set)
        drained(run)
        assert arranged == [[0]]
        assert executor.started == []
        assert run.reader.committed == {}


def test_tasks_that_wait_for_their_retry_are_not_run_again() -> None:
    """A fenced task ends: its hooks are not asked, nothing is delivered or committed."""
    completed = []

    class Failing(Naming):
        async def on_error(self, task: ExecutorTask, error: ExecutorError) -> Any:
            executor.gate().shut()
            return "retry"

        async def on_message_complete(self, group: MessageGroup) -> None:
            completed.append(group)

    executor = ScriptedExecutor({"0:0": [1, "fine"]})
    executor.gate("0:0").shut()
    with FlowRun(Failing(), [0], executor=executor, open_end=True) as run:
        run.wait_until(lambda: executor.started)
        run.reader.revoke()
        executor.gate("0:0").open()
        drained(run)
        assert executor.started == ["0:0"]
        assert (completed, run.sink().values, run.reader.committed) == ([], [], {})


def test_results_of_a_revoked_partition_are_not_delivered() -> None:
    """A task that ends after the revoke: its payload reaches no sink; the other partition's does."""
    executor = ScriptedExecutor()
    executor.gate().shut()
    with FlowRun(Naming(), [0, 1], partitions=2, executor=executor, open_end=True) as run:
        run.wait_until(lambda: len(executor.started) == 2)
        assert run.reader.revoke([FIRST]) == 1
        executor.gate().open()
        drained(run)
        assert run.sink().values == ["1:0"]
        assert run.reader.committed == {SECOND: 1}


def test_payloads_that_wait_for_a_retry_are_not_written() -> None:
    """A batch of two partitions is written again without what belongs to the revoked one."""
    seen = []
    revoked: list[bool] = []

    def script(payloads: list[KafkaPayload]) -> None:
        seen.append([payload.data for payload in payloads])
        if not revoked:
            raise SinkError("down")

    async def again(error: DeliveryError) -> str:
        return "retry"

    flow = StreamFlow("retry").decode(int).route(on_delivery_error=again)
    with FlowRun(flow, [0, 1], partitions=2, sinks=[MemorySink(script=script)], open_end=True) as run:
        run.wait_until(lambda: len(seen) > 3)
        run.reader.revoke([FIRST])
        revoked.append(True)
        drained(run)
        assert seen[-1] == [1]
        assert run.sink().values == [1]
        assert run.reader.committed == {SECOND: 1}


def test_payloads_that_wait_for_their_turn_are_not_written() -> None:
    """Behind a slow write: the waiting payloads of a revoked partition are dropped."""
    sink = MemorySink(max_batch=1)
    sink.gate.shut()
    with FlowRun(StreamFlow("turn").decode(int).route(), range(6), partitions=2, sinks=[sink], open_end=True) as run:
        run.wait_until(lambda: sink.gate.waiting and run.in_flight.records == 6)
        run.reader.revoke([FIRST])
        sink.gate.open()
        drained(run)
        assert [value for value in sink.values if value % 2] == [1, 3, 5]
        assert len([value for value in sink.values if value % 2 == 0]) <= 1  # the one that was being written
        assert run.reader.committed == {SECOND: 3}


def test_calls_that_wait_for_a_place_in_map_async_are_not_made() -> None:
    """Queued records of a revoked partition are dropped before their call."""
    gate = asyncio.Event()
    called = []

    async def slow(n: int) -> int:
        called.append(n)
        if len(called) == 1:
            await gate.wait()
        return n

    flow = StreamFlow("calls").decode(int).map_async(slow, max_in_flight=1).route()
    with FlowRun(flow, range(6), partitions=2, open_end=True) as run:
        run.wait_until(lambda: called and run.in_flight.records == 6)
        run.reader.revoke([FIRST])
        run.call(gate.set)
        drained(run)
        assert set(called[1:]) <= {1, 3, 5}
        assert sorted(run.sink().values) == [1, 3, 5]
        assert run.reader.committed == {SECOND: 3}


@pytest.mark.parametrize("drop", [False, True], ids=["stalled", "waiting"])
def test_dead_letters_of_a_revoked_partition_are_not_written(drop: bool) -> None:
    """Neither those that are tried again nor those that wait for their turn; the other partition's are."""
    down = [True]

    def script(failures: list[Failure]) -> None:
        if down:
            raise OSError("no broker")

    letters = MemoryDeadLetters(script)
    if drop:
        letters.gate.shut()
    with FlowRun(StreamFlow("dlq").decode(int).route(), dead_letters=letters, partitions=2, open_end=True) as run:
        run.reader.put(["a"] * 2)
        run.wait_until(lambda: letters.gate.waiting if drop else letters.writes > 3)
        run.reader.put(["b"] * 8)
        run.wait_until(lambda: run.in_flight.records == 10)
        run.reader.revoke([FIRST])
        down.clear()
        letters.gate.open()
        drained(run)
        written = [letter.tokens[0][0].topic_partition for letter in letters.letters]
        assert written.count(SECOND) == 5
        assert written.count(FIRST) <= (1 if drop else 0)  # the one that was being written
        assert run.reader.committed == {SECOND: 5}


def test_a_partition_that_comes_back_is_read_from_its_committed_offset() -> None:
    """What was finished behind a slow record is not done again; late ends of the old assignment change nothing."""
    executor = ScriptedExecutor()
    executor.gate("0:2").shut()
    with FlowRun(Naming(), range(5), executor=executor, open_end=True) as run:
        run.wait_until(lambda: run.reader.committed == {FIRST: 2} and run.in_flight.records == 1)
        assert run.reader.revoke() == 1
        run.reader.assign()
        executor.gate("0:2").open()
        run.wait_until(lambda: run.reader.committed == {FIRST: 5})
        drained(run)
        assert sorted(run.sink().values) == ["0:0", "0:1", "0:2", "0:3", "0:4"]
        epochs = [mark.epoch for mark in run.reader.commits]
        assert epochs == sorted(epochs)


def test_a_revoke_that_waits_commits_what_finishes_meanwhile() -> None:
    """Within the drain budget nothing is fenced: everything is delivered and committed, nothing is left."""
    executor = ScriptedExecutor()
    executor.gate().shut()
    with FlowRun(Naming(), range(3), executor=executor, open_end=True) as run:
        run.wait_until(lambda: len(executor.started) == 3)
        executor.gate().open()
        assert run.in_flight.wait_idle([(FIRST, 1)], 20.0) == 0
        assert run.reader.committed == {FIRST: 3}
        assert run.reader.revoke(drain_s=20.0) == 0
        assert sorted(run.sink().values) == ["0:0", "0:1", "0:2"]


def test_a_hook_that_ends_after_the_revoke_delivers_nothing() -> None:
    """on_window_complete of a revoked window: its payload is dropped with its records."""
    gate = asyncio.Event()

    class Waiting(Naming):
        async def on_window_complete(
            self, results: list[ExecutorResult], source_messages: list[Record]
        ) -> KafkaPayload:
            await gate.wait()
            return KafkaPayload(data="window")

    with FlowRun(Waiting(), [0], open_end=True) as run:
        run.wait_until(lambda: run.sink().values == ["0:0"])
        run.reader.revoke()
        run.call(gate.set)
        drained(run)
        assert run.sink().values == ["0:0"]
        assert run.reader.committed == {}


def test_storms_of_revokes_lose_nothing() -> None:
    """Partitions taken away and given back many times while work is in flight: every record is delivered at last."""

    async def slow(n: int) -> int:
        await asyncio.sleep(0)
        return n

    flow = StreamFlow("storm").decode(int).map_async(slow, max_in_flight=5).flat_map(lambda n: [n, n]).route()
    sink = MemorySink(max_batch=7)
    with FlowRun(flow, range(2000), partitions=4, sinks=[sink], open_end=True) as run:
        for turn in range(20):
            topic_partition = ("input", turn % 4)
            run.wait_until(lambda: run.reader.statistics().queued or True)
            run.reader.revoke([topic_partition])
            run.reader.assign([topic_partition])
        run.reader.end()
        outcome = run.finish()
    assert outcome.committed == {("input", n): 500 for n in range(4)}
    assert set(outcome.values) == set(range(2000))
    assert all(outcome.values.count(n) >= 2 for n in range(0, 2000, 97))
