"""Whole runs: exact counts through every step, several workers, bounds, and how a run ends."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from drakkar_flow import (
    DrakkarConfig,
    ErrorAction,
    ExecutorTask,
    Handler,
    KafkaPayload,
    PendingContext,
    Record,
    StreamFlow,
)
from drakkar_flow.errors import FlowError, SinkError
from drakkar_flow.model.group import MessageGroup
from drakkar_flow.model.task import ExecutorError, ExecutorResult
from drakkar_flow.observe.events.records import RecordsFinished
from drakkar_flow.testing import FlowRun, MemorySink, ScriptedExecutor, run_flow

WORKERS = pytest.mark.parametrize("workers", [1, 2], ids=["one-worker", "two-workers"])


def config(workers: int, **executor: Any) -> DrakkarConfig:
    """A configuration with so many Bytewax workers."""
    return DrakkarConfig(runtime={"workers": workers}, executor=executor)


@WORKERS
def test_ten_thousand_records_through_every_step_are_counted_exactly(workers: int) -> None:
    """Decode, filter, flat_map, map_async, two sinks that sometimes fail, dead letters: nothing lost or doubled."""
    rng = random.Random(7)

    async def sometimes_waits(n: int) -> int:
        if n % 7 == 0:
            await asyncio.sleep(0)
        if n % 100 == 3:
            raise ValueError("every hundredth")
        return n

    def flaky(payloads: list[KafkaPayload]) -> None:
        if rng.random() < 0.2:
            raise SinkError("flaky")

    flow = (
        StreamFlow("all")
        .decode(int)
        .filter(lambda n: n % 5)
        .flat_map(lambda n: [n, n] if n % 2 else [n])
        .map_async(sometimes_waits, max_in_flight=50)
        .map(lambda n: n)
        .route(on_delivery_error=lambda error: "retry")
    )
    values = [str(n) if n % 1000 != 1 else "junk" for n in range(10_000)]
    sinks = [MemorySink("a", script=flaky, max_batch=300), MemorySink("b", max_in_flight=4, max_batch=50)]
    outcome = run_flow(flow, values, sinks=sinks, partitions=8, config=config(workers))
    kept = [n for n in range(10_000) if n % 1000 != 1 and n % 5]
    expected = Counter(n for n in kept for _ in range(1 + n % 2) if n % 100 != 3)
    for sink in ("kafka-a", "kafka-b"):
        assert Counter(payload.data for payload in outcome.deliveries[sink]) == expected
    assert len(outcome.dead_letters) == 10 + 2 * 100
    assert outcome.committed == {("input", topic_partition): 1250 for topic_partition in range(8)}
    finished = outcome.of(RecordsFinished)
    assert sum(event.done + event.skipped + event.dead for event in finished) == 10_000
    assert sum(event.dead for event in finished) == 10 + 100


class Everything(Handler[int, int]):
    """Fan-out, fan-in, retries, replacements, skipped and dead tasks, and all hooks."""

    def __init__(self) -> None:
        self.records: Counter[str] = Counter()
        self.windows = 0

    async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        tasks = [ExecutorTask(task_id=f"all-{messages[0].label}", source_offsets=[m.offset for m in messages])]
        for m in messages:
            tasks += [ExecutorTask(task_id=f"{m.payload}.{i}", source_offsets=[m.offset]) for i in range(m.payload % 3)]
        if messages[0].payload % 2:
            await asyncio.sleep(0)
        return tasks

    async def on_task_complete(self, result: ExecutorResult) -> KafkaPayload:
        return KafkaPayload(data=result.task.task_id)

    async def on_message_complete(self, group: MessageGroup) -> None:
        self.records[group.source_message.label] += 1

    async def on_window_complete(
        self, results: list[ExecutorResult], source_messages: list[Record[int]]
    ) -> KafkaPayload:
        self.windows += 1
        return KafkaPayload(data=f"w-{source_messages[0].label}")

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
        kind = int(task.task_id.split(".")[0]) % 4
        if task.parent_task_id is not None or kind == 0:
            return ErrorAction.SKIP
        if kind == 1:
            return ErrorAction.DLQ
        if kind == 2:
            return ErrorAction.RETRY
        return [ExecutorTask(task_id=f"{task.task_id}.r", source_offsets=task.source_offsets)]


@WORKERS
def test_ten_thousand_records_through_a_handler_are_counted_exactly(workers: int) -> None:
    """Every record completes once, every window once, every expected payload is there once."""

    def ending(task: ExecutorTask) -> int | str:
        if task.task_id.startswith("all-") or task.task_id.endswith(".r"):
            return ""
        number, index = map(int, task.task_id.split("."))
        return 1 if index == 1 and number % 11 == 0 else ""

    handler = Everything()
    outcome = run_flow(
        handler,
        range(10_000),
        partitions=8,
        executor=ScriptedExecutor(ending),
        config=config(workers, window_size=37, max_retries=1),
        timeout_s=60,
    )
    failing = [n for n in range(10_000) if n % 3 == 2 and n % 11 == 0]
    expected = {f"{n}.{i}" for n in range(10_000) for i in range(n % 3)}
    expected -= {f"{n}.1" for n in failing}
    expected |= {f"{n}.1.r" for n in failing if n % 4 == 3}
    seen = Counter(outcome.values)
    assert max(seen.values()) == 1
    assert {value for value in seen if value[0].isdigit()} == expected
    windows = [value for value in seen if value.startswith("w-")]
    assert len(windows) == handler.windows == sum(value.startswith("all-") for value in seen)
    assert len(handler.records) == 10_000
    assert set(handler.records.values()) == {1}
    assert len(outcome.dead_letters) == sum(n % 4 == 1 for n in failing)
    assert outcome.committed == {("input", topic_partition): 1250 for topic_partition in range(8)}


@WORKERS
def test_records_of_a_partition_stay_in_order(workers: int) -> None:
    """Whatever the workers: windows and deliveries of a partition follow its offsets."""
    arranged: dict[int, list[int]] = {}

    def arrange(records: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        arranged.setdefault(records[0].partition, []).extend(record.offset for record in records)
        return []

    flow = StreamFlow("order").arrange(arrange).execute().collect().route()
    run_flow(flow, range(5000), partitions=5, config=config(workers, window_size=10))
    assert arranged == {partition: list(range(1000)) for partition in range(5)}


def test_a_compacted_log_is_committed_to_its_end() -> None:
    """Gaps between offsets are legal: the committed offset is one past the last record."""
    records = [Record("log", 3, offset, b"1") for offset in (5, 6, 100, 2**33)]
    outcome = run_flow(StreamFlow("gaps").decode(int).route(), records)
    assert outcome.committed == {("log", 3): 2**33 + 1}
    assert outcome.values == [1, 1, 1, 1]


def test_intake_stops_at_the_bound_of_records_in_flight_and_goes_on() -> None:
    """No more than max_in_flight_records leave the source before acknowledgements make room."""
    sink = MemorySink()
    sink.gate.shut()
    bound = DrakkarConfig(runtime={"max_in_flight_records": 10})
    with FlowRun(StreamFlow("bound").decode(int).route(), range(100), sinks=[sink], config=bound) as run:
        run.wait_until(lambda: sink.gate.waiting and run.in_flight.records == 10)
        assert run.reader.statistics().queued == {("input", 0): 90}
        sink.gate.open()
        assert run.finish().committed == {("input", 0): 100}
    assert sink.values == list(range(100))


def test_work_that_ends_while_new_work_comes_in_is_neither_lost_nor_doubled() -> None:
    """Thousands of small batches against calls that end at any moment."""

    async def jitter(n: int) -> int:
        for _ in range(n % 4):
            await asyncio.sleep(0)
        return n

    flow = StreamFlow("jitter").decode(int).map_async(jitter, max_in_flight=9).route()
    with FlowRun(flow, open_end=True, partitions=3) as run:
        for start in range(0, 3000, 3):
            run.reader.put(range(start, start + 3))
        run.reader.end()
        outcome = run.finish()
    assert sorted(outcome.values) == list(range(3000))
    assert outcome.committed == {("input", topic_partition): 1000 for topic_partition in range(3)}


# --- how a run ends -------------------------------------------------------------------------------------


def test_d30_a_stop_lets_work_in_flight_finish_and_reads_nothing_more() -> None:
    """What was read before the stop is delivered and committed, the rest is left."""
    sink = MemorySink()
    sink.gate.shut()
    bound = DrakkarConfig(runtime={"max_in_flight_records": 10})
    with FlowRun(StreamFlow("stop").decode(int).route(), range(100), sinks=[sink], config=bound) as run:
        run.wait_until(lambda: sink.gate.waiting and run.in_flight.records == 10)
        assert run.control.stop() is True
        assert run.control.stop() is False
        sink.gate.open()
        outcome = run.finish()
    assert outcome.failure is None
    assert outcome.committed == {("input", 0): 10}
    assert outcome.values == list(range(10))


def test_d30_a_drain_that_takes_too_long_leaves_its_records_uncommitted() -> None:
    """After the budget the flow ends with records in flight; their offsets stay."""
    sink = MemorySink(max_batch=1)
    budget = DrakkarConfig(runtime={"drain_timeout_s": 0.05})
    with FlowRun(StreamFlow("drain").decode(int).route(), range(3), sinks=[sink], config=budget, open_end=True) as run:
        run.wait_until(lambda: run.reader.committed == {("input", 0): 3})
        sink.gate.shut()
        run.reader.put([3, 4])
        run.wait_until(lambda: sink.gate.waiting)
        run.control.stop()
        outcome = run.finish()
        assert run.in_flight.records == 2
    assert outcome.committed == {("input", 0): 3}


def test_a_flow_that_does_not_fit_is_refused_before_it_runs() -> None:
    """run_flow checks as every runner does."""
    with pytest.raises(FlowError, match="results go nowhere"):
        run_flow(StreamFlow("nowhere").decode(int), [1])


def test_a_run_that_is_stuck_says_what_is_open() -> None:
    """After its deadline run_flow fails with the records in flight and what was committed."""
    sink = MemorySink()
    sink.gate.shut()
    vain = r"does not end: waited in vain \(0.05 s are over\), in flight: input:0 2; .*committed: \{\}"
    with pytest.raises(AssertionError, match=vain):
        run_flow(StreamFlow("stuck").decode(int).route(), [1, 2], sinks=[sink], timeout_s=0.05)


@pytest.mark.parametrize("name", ["track", "dlq", "kafka-out", "source", "commit", "endings"])
def test_steps_may_have_any_name(name: str) -> None:
    """No name a user gives collides with the steps a flow is completed by."""
    flow = StreamFlow("names").decode(int, name=name).map(abs, name=name).map(abs, name=name).route(name=name)
    assert run_flow(flow, [-1]).values == [1]
