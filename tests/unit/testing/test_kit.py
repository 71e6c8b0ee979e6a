"""The testing kit itself: what it shows is what happened."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any, NoReturn

import pytest

from drakkar_flow import ExecutorTask, KafkaPayload, Record, StreamFlow
from drakkar_flow.errors import BatchFailed, SinkError
from drakkar_flow.executor.base import ExecutorStatistics, run
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.model.record import Watermark
from drakkar_flow.observe.events.records import RecordsFinished
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.testing import FlowRun, Gate, MemoryReader, MemorySink, ScriptedExecutor, failed, run_flow, succeeded

pytestmark = pytest.mark.anyio
A, B = ("input", 0), ("input", 1)


@pytest.fixture
def anyio_backend() -> str:
    """The loop the kit runs on."""
    return "asyncio"


def in_flight() -> InFlight:
    """A flight nothing fills."""
    return InFlight(1 << 40, 1 << 40)


def echo() -> StreamFlow:
    """A flow that delivers text as it is."""
    return StreamFlow("echo").decode(str).route()


def test_values_are_dealt_to_partitions_in_turn_and_encoded() -> None:
    """Bytes as they are, text as UTF-8, the rest as JSON; records stay where they say."""
    reader = MemoryReader([b"\x00", "ä", {"a": 1}, Record("other", 4, 9, b"v", b"k")], in_flight(), partitions=2)
    reader.start()
    popped = {records[0].topic_partition: records for records in reader.pop(99, 0, 1)}
    assert [(r.offset, r.value, r.previous) for r in popped[A]] == [(0, b"\x00", -1), (1, b'{"a":1}', 0)]
    assert [r.value for r in popped[B]] == ["ä".encode()]
    (other,) = popped["other", 4]
    assert (other.offset, other.key, other.previous) == (9, b"k", -1)
    assert [reader.end_of(topic_partition) for topic_partition in reader.topic_partitions] == [2, 1, 10]


def test_a_reader_gives_nothing_before_its_start_and_is_exhausted_after_its_end() -> None:
    """exhausted needs both: the end was said, and everything was given out."""
    reader = MemoryReader([1, 2], in_flight())
    assert reader.pop(9, 0, 1) == []
    reader.start()
    reader.end()
    assert not reader.exhausted
    assert sum(map(len, reader.pop(1, 0, 1))) == 1
    assert not reader.exhausted
    reader.pop(1, 0, 1)
    assert reader.exhausted


def test_commits_of_ended_assignments_are_not_taken() -> None:
    """Only the present epoch of a partition moves its committed offset; a new one begins there."""
    reader = MemoryReader(range(4), in_flight())
    reader.start()
    (records,) = reader.pop(9, 0, 1)
    reader.commit([Watermark(A, records[0].epoch, 2)])
    reader.revoke([A])
    reader.commit([Watermark(A, records[0].epoch, 3)])
    assert reader.committed == {A: 2}
    reader.assign([A])
    (again,) = reader.pop(9, 0, 1)
    assert [(r.offset, r.previous) for r in again] == [(2, -1), (3, 2)]
    assert again[0].epoch > records[0].epoch
    assert reader.commits == [Watermark(A, records[0].epoch, 2)]
    assert reader.statistics()[:2] == ({A: 0}, {A: 2})


def test_a_reader_that_was_detached_commits_nothing_more() -> None:
    """What acknowledgements were on their way when the process crashed does not count."""
    reader = MemoryReader(range(2), in_flight())
    reader.start()
    (records,) = reader.pop(9, 0, 1)
    reader.detach()
    reader.commit([Watermark(A, records[0].epoch, 2)])
    reader.close()
    assert (reader.committed, reader.log.start_of(A)[0], reader.assigned) == ({}, 0, [A])


async def test_a_sink_keeps_what_its_script_lets_through() -> None:
    """Exceptions in turn; a BatchFailed keeps what it does not name."""
    sink = MemorySink(script=[SinkError("down"), BatchFailed({0: SinkError("one")})])
    batch = [Delivery(KafkaPayload(data=n), ()) for n in range(3)]
    for error, kept in ((SinkError, []), (BatchFailed, [1, 2])):
        with pytest.raises(error):
            await sink.write_batch(batch)
        assert sink.values == kept
    await sink.write_batch(batch)
    assert (sink.values, sink.writes) == ([1, 2, 0, 1, 2], 3)


async def test_a_gate_holds_back_who_comes_while_it_is_shut() -> None:
    """Opening lets everybody go who waits, and whoever comes later."""
    gate = Gate()
    await gate.passage()
    gate.shut()
    waiting = [asyncio.ensure_future(gate.passage()) for _ in range(2)]
    await asyncio.sleep(0)
    assert gate.waiting == 2
    waiting[0].cancel()
    await asyncio.gather(waiting[0], return_exceptions=True)
    assert gate.waiting == 1
    gate.open()
    await waiting[1]
    await gate.passage()
    assert gate.waiting == 0


async def test_an_executor_ends_tasks_as_its_script_says() -> None:
    """By id, attempt by attempt, or by a function; text succeeds, numbers are exit codes."""

    def task(name: str, **more: Any) -> ExecutorTask:
        return ExecutorTask(task_id=name, source_offsets=[], **more)

    executor = ScriptedExecutor({"a": "out", "b": 3, "c": [1, 0]})
    a, b, c, other = (task(name) for name in ("a", "b", "c", "other"))
    assert await run(executor, a) == succeeded(a, "out")
    assert await run(executor, b) == failed(b, 3)
    assert [await run(executor, c) for _ in range(3)] == [failed(c), succeeded(c), succeeded(c)]
    assert await run(executor, other) == succeeded(other)
    assert executor.started == ["a", "b", "c", "c", "c", "other"]
    assert await run(ScriptedExecutor(lambda t: failed(t, 9, "why")), a) == failed(a, 9, "why")
    assert executor.statistics() == ExecutorStatistics(0, 0, 4)


async def test_an_executor_counts_what_runs_at_once() -> None:
    """peak is the most; statistics are of now."""
    executor = ScriptedExecutor()
    executor.gate("a").shut()
    tasks = [ExecutorTask(task_id=name, source_offsets=[]) for name in "ab"]
    running = [asyncio.ensure_future(run(executor, task)) for task in tasks]
    await running[1]
    assert (executor.peak, executor.statistics().running) == (2, 1)
    executor.gate("a").open()
    await running[0]
    assert executor.statistics().running == 0


def test_an_outcome_has_values_and_events() -> None:
    """values over all sinks; of() picks events by type."""
    outcome = run_flow(echo(), ["a", "b"])
    assert outcome.values == ["a", "b"]
    assert sum(event.done for event in outcome.of(RecordsFinished)) == 2
    assert outcome.failure is None


def test_leaving_a_run_early_ends_it() -> None:
    """No thread stays behind, and no error is told."""
    before = set(threading.enumerate())
    with FlowRun(echo(), open_end=True) as run:
        run.reader.put(["a"])
        run.wait_until(lambda: run.sink().values)
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) <= before
    assert run.control.failure == "the test ended"


def test_waiting_in_vain_tells_what_is_open() -> None:
    """The deadline of wait_until says what is in flight and committed."""
    with FlowRun(echo(), ["a"], open_end=True) as run:
        run.wait_until(lambda: run.reader.committed)
        with pytest.raises(
            AssertionError,
            match=r"waited in vain \(0.02 s are over\), in flight: none; committed: \{\('input', 0\): 1\}",
        ):
            run.wait_until(lambda: False, timeout_s=0.02)


def test_waiting_for_a_flow_that_has_ended_fails_at_once() -> None:
    """Nothing will change any more."""
    with FlowRun(echo(), ["a"]) as run:
        run.finish()
        with pytest.raises(AssertionError, match="waited in vain"):
            run.wait_until(lambda: False, timeout_s=600)


def test_a_flow_that_breaks_fails_the_test() -> None:
    """What raises in the engine is told, not swallowed."""

    class Broken(MemoryReader):
        def pop(self, limit: int, slot: int, slots: int) -> NoReturn:
            raise RuntimeError("no pop")

    def run_it() -> None:
        run = FlowRun(echo(), ["a"])
        run.reader.__class__ = Broken
        with run:
            run.finish()

    with pytest.raises(AssertionError, match="the flow broke: "):
        run_it()


def test_a_hook_that_ends_the_loop_fails_the_test() -> None:
    """sys.exit() in what a hook left on the loop is told at once instead of leaving the test to wait."""

    async def leave(result: object) -> None:
        asyncio.get_running_loop().call_soon(sys.exit, 3)
        await asyncio.sleep(60)

    flow = (
        StreamFlow("exit")
        .arrange(lambda records, _: [ExecutorTask(task_id="t", source_offsets=[0])])
        .execute()
        .collect(leave)
        .route()
    )
    with pytest.raises(AssertionError, match=r"the flow broke: SystemExit\(3\)"):
        run_flow(flow, [1])
