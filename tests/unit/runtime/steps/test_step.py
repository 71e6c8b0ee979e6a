"""The async step: what the engine's thread may see of the loop's work at any moment."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from types import FrameType
from typing import Any

import pytest

from drakkar_flow.config.sections.delivery import CircuitBreakerConfig, RetryConfig
from drakkar_flow.errors import SinkError
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.kernel.retry import RetryPolicy
from drakkar_flow.model.outcome import Ack, Delivery, Failure, FailureKind
from drakkar_flow.model.payload import KafkaPayload
from drakkar_flow.model.record import FULL_CREDIT, Record
from drakkar_flow.model.task import ErrorAction, ExecutorResult, ExecutorTask
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.chunk import Chunk
from drakkar_flow.runtime.flight import Flight
from drakkar_flow.runtime.memory import Charge
from drakkar_flow.runtime.steps.arrange import ArrangeWorker
from drakkar_flow.runtime.steps.circuit import Circuit
from drakkar_flow.runtime.steps.collect import CollectHooks, CollectWorker
from drakkar_flow.runtime.steps.deadletter import DeadLetterWorker
from drakkar_flow.runtime.steps.deliver import DeliverSettings, DeliverWorker
from drakkar_flow.runtime.steps.execute import ExecuteSettings, ExecuteWorker
from drakkar_flow.runtime.steps.line import keys_of
from drakkar_flow.runtime.steps.parking import Parking
from drakkar_flow.runtime.steps.pending import PendingTasks
from drakkar_flow.runtime.steps.step import Worker, _AsyncLogic
from drakkar_flow.runtime.steps.transform import MapAsyncWorker
from drakkar_flow.runtime.steps.windows import Ending, WindowRun
from drakkar_flow.testing import MemoryDeadLetters, MemorySink, ScriptedExecutor
from support.gates import open_gate
from support.loop import LoopBridge

pytestmark = pytest.mark.anyio

NO_PAUSE = Backoff(initial_s=1e-6, max_s=1e-6)


@pytest.fixture
def anyio_backend() -> str:
    """The loop the runtime runs on."""
    return "asyncio"


class Echo(Worker):
    """Answers what it is told to."""

    def __init__(self) -> None:
        super().__init__(LoopBridge())
        self.seen: list[Any] = []

    def accept(self, items: list[Any]) -> None:
        """Keep the items open."""
        self.open += len(items)
        self.seen += items

    def answer(self, *items: Any) -> None:
        """Send items on."""
        for item in items:
            self.emit(item)
            self.open -= 1


def ack(offset: int) -> Ack:
    """Some ack."""
    return Ack(Record("in", 0, offset), 1)


def failure() -> Failure:
    """Some failure."""
    return Failure(kind=FailureKind.BUSINESS, stage="s", error="e", holds=())


async def turn() -> None:
    """Let everything posted run."""
    for _ in range(3):
        await asyncio.sleep(0)


# --- the engine's side ----------------------------------------------------------------------------------


async def test_failures_and_acks_pass_by_at_once_while_items_wait():
    """What a step does not look at never waits for what it works on."""
    worker = Echo()
    logic = _AsyncLogic(worker)
    chunk = Chunk(["a"], [failure()], [ack(1)])
    (passed,), discard = logic.on_batch([chunk])
    assert (passed.items, passed.failures, passed.acks, discard) == ([], chunk.failures, chunk.acks, False)
    await turn()
    assert worker.seen == ["a"]
    assert logic.on_notify() == ([], False)


async def test_a_chunk_without_items_never_reaches_the_loop():
    """Nothing is submitted, the step stays idle and asks for no notification."""
    worker = Echo()
    logic = _AsyncLogic(worker)
    out, _ = logic.on_batch([Chunk(acks=[ack(1)]), Chunk()])
    assert [chunk.acks for chunk in out] == [[ack(1)]]
    assert worker.idle
    assert logic.notify_at() is None


async def test_answers_come_back_together_and_once():
    """What was answered in one turn of the loop is one chunk; it is taken once."""
    worker = Echo()
    logic = _AsyncLogic(worker)
    assert logic.on_batch([Chunk([1, 2]), Chunk([3])]) == ([], False)
    assert not worker.idle
    await turn()
    worker.answer(1, 2, 3)
    worker.fail(failure())
    worker.ack(ack(7))
    assert not worker.idle
    await turn()
    (chunk,), _ = logic.on_notify()
    assert (chunk.items, len(chunk.failures), chunk.acks) == ([1, 2, 3], 1, [ack(7)])
    assert logic.on_notify() == ([], False)
    assert logic.notify_at() is None


async def test_the_step_asks_to_be_notified_soon_then_less_often_until_nothing_is_open():
    """1 ms after something came, more and more up to 20 ms while nothing does, not at all when idle."""
    worker = Echo()
    logic = _AsyncLogic(worker)

    def pause(act: Callable[[], Any]) -> timedelta | None:
        before = datetime.now(UTC)
        act()
        wake = logic.notify_at()
        return None if wake is None else wake - before

    first = pause(lambda: logic.on_batch([Chunk([1, 2])]))
    assert first is not None
    assert timedelta(milliseconds=1) <= first
    pauses = [pause(logic.on_notify) for _ in range(40)]
    assert all(each is not None and each >= timedelta(milliseconds=1) for each in pauses)
    assert timedelta(milliseconds=20) <= pauses[-1] < timedelta(milliseconds=500)  # type: ignore[operator]
    await turn()
    worker.answer(1)
    await turn()
    assert timedelta(milliseconds=1) <= pause(logic.on_notify) < pauses[-1]  # type: ignore[operator]
    worker.answer(2)
    await turn()
    assert pause(logic.on_notify) is None


async def test_what_ends_while_the_engine_looks_is_given_at_the_next_look():
    """An answer that comes right behind `take` leaves a notification asked for."""

    class Racing(Echo):
        def take(self) -> list[Chunk]:
            """Finish just after the engine's thread took what there was."""
            taken = super().take()
            if self.open:
                self.answer(1)
                self._flush()
            return taken

    worker = Racing()
    logic = _AsyncLogic(worker)
    worker.submit([[1]])
    await turn()
    assert logic.on_notify() == ([], False)
    assert logic.notify_at() is not None
    (chunk,), _ = logic.on_notify()
    assert chunk.items == [1]
    assert logic.notify_at() is None


async def test_the_end_gives_what_is_finished_and_keeps_nothing():
    """What is still open at the end is left out; a snapshot holds nothing."""
    worker = Echo()
    logic = _AsyncLogic(worker)
    logic.on_batch([Chunk([1, 2])])
    await turn()
    worker.answer(1)
    await turn()
    (chunk,), discard = logic.on_eof()
    assert (chunk.items, discard) == ([1], True)
    assert logic.snapshot() is None


# --- idle -----------------------------------------------------------------------------------------------


def record(offset: int) -> Record:
    """A record with a payload."""
    return Record("in", 0, offset, b"1", payload=offset, previous=offset - 1)


def task(offset: int, *offsets: int) -> ExecutorTask:
    """A task for some offsets."""
    return ExecutorTask(task_id=f"t{offset}", source_offsets=[offset, *offsets])


async def sometimes(value: Any) -> Any:
    """Answer at once, later, or with an exception."""
    number = value if isinstance(value, int) else value.task.source_offsets[0]
    if number % 2:
        await asyncio.sleep(0)
    if number % 5 == 4:
        raise ValueError(number)
    return number if isinstance(value, int) else KafkaPayload(data=number)


def map_async(bridge: Any, ordering: Any = "unordered") -> tuple[Worker, list[Any], Callable[[list[Chunk]], bool]]:
    """map_async over 9 records; answered: each record emitted or failed."""
    flight = Flight(100, 100)
    worker = MapAsyncWorker(
        bridge,
        flight,
        open_gate(bridge, flight),
        "s",
        sometimes,
        max_in_flight=2,
        timeout_s=None,
        with_record=False,
        keys=keys_of(ordering),
    )
    return worker, [record(i) for i in range(9)], lambda out: sum(len(c.items) + len(c.failures) for c in out) == 9


def arrange(bridge: Any) -> tuple[Worker, list[Any], Callable[[list[Chunk]], bool]]:
    """arrange over 9 records in windows of 2."""

    async def function(records: list[Record], _pending: Any) -> list[ExecutorTask]:
        await sometimes(records[0].offset + 1)
        return [task(r.offset) for r in records]

    def complete(out: list[Chunk]) -> bool:
        items = [item for c in out for item in c.items]
        failed = sum(len(f.holds) for c in out for f in c.failures)
        return sum(len(item.records) for item in items if type(item) is WindowRun) + failed == 9

    flight = Flight(9, 9)
    gate = open_gate(bridge, flight)
    worker = ArrangeWorker(
        LoopBridge(), Bus(), flight, gate, PendingTasks(), "s", function, 2, 0.0, keep_messages=False
    )
    return worker, [record(i) for i in range(9)], complete


def execute(bridge: Any, ordering: Any = "unordered") -> tuple[Worker, list[Any], Callable[[list[Chunk]], bool]]:
    """execute with retries and replacements; complete: every task and every replacement has ended."""

    async def on_error(failed: ExecutorTask, _error: Any) -> Any:
        await asyncio.sleep(0)
        if failed.parent_task_id is None:
            return [task(failed.source_offsets[0] + 100, failed.source_offsets[0])]
        return ErrorAction.SKIP

    window = WindowRun([record(i) for i in range(9)], 0.0, keep_messages=False)
    runs = [window.attribute(task(i)) for i in range(9)]
    executor = ScriptedExecutor(lambda t: 1 if t.source_offsets[0] % 3 == 1 else "")
    settings = ExecuteSettings(RetryPolicy(NO_PAUSE, 1), on_error, ErrorAction.SKIP, keys_of(ordering))
    flight = Flight(9, 9)
    parking = Parking(bridge, flight, limit=9)
    worker = ExecuteWorker(
        bridge, Bus(), flight, open_gate(bridge, flight), PendingTasks(), parking, executor, settings
    )

    def complete(out: list[Chunk]) -> bool:
        items = [item for c in out for item in c.items]
        replaced = sum(item.ending is Ending.REPLACED for item in items if item is not window)
        return len(items) == 1 + 9 + replaced and window in items

    return worker, [window, *runs], complete


def collect(bridge: Any, keys: Any = ()) -> tuple[Worker, list[Any], Callable[[list[Chunk]], bool]]:
    """collect with every hook; complete: all credit of the 9 records has been acknowledged or has left."""

    async def on_message(group: Any) -> None:
        await sometimes(group.source_message.offset)

    async def on_window(_results: Any, _records: Any) -> KafkaPayload:
        await asyncio.sleep(0)
        return KafkaPayload(data="w")

    window = WindowRun([record(i) for i in range(9)], 0.0, keep_messages=True)
    runs = []
    for i in range(8):
        run = window.attribute(task(i))
        run.keys = keys
        runs.append(run.end(Ending.SUCCEEDED, result=ExecutorResult(task=run.task)))
    hooks = CollectHooks("s", sometimes, on_message, on_window)
    worker = CollectWorker(bridge, Bus(), Charge(Flight(9, 9)), hooks)

    def complete(out: list[Chunk]) -> bool:
        holds = [share for c in out for item in (*c.items, *c.failures) for _, share in item.holds]
        return sum(holds) + sum(a.credit for c in out for a in c.acks) == 9 * FULL_CREDIT

    return worker, [window, *runs], complete


def deliver(bridge: Any) -> tuple[Worker, list[Any], Callable[[list[Chunk]], bool]]:
    """deliver with retries; complete: 9 acks or failures."""
    sink = MemorySink(script=[SinkError("x"), None, SinkError("x"), SinkError("x"), SinkError("x")])
    settings = DeliverSettings("kafka", "out", 2, 2, RetryConfig(attempts=2).attempts, NO_PAUSE)
    circuit = Circuit(Bus(), "kafka", "out", CircuitBreakerConfig())
    worker = DeliverWorker(bridge, Bus(), Flight(9, 9), sink, settings, circuit)
    items = [Delivery(KafkaPayload(data=i), ((record(i), 1),)) for i in range(9)]
    return worker, items, lambda out: sum(len(c.acks) + len(c.failures) for c in out) == 9


def dead_letters(bridge: Any) -> tuple[Worker, list[Any], Callable[[list[Chunk]], bool]]:
    """dead letters with a topic that fails twice; complete: 9 acks."""
    writer = MemoryDeadLetters([OSError("x"), OSError("x")])
    worker = DeadLetterWorker(bridge, Bus(), Flight(9, 9), writer, NO_PAUSE, drop=False)
    letters = [Failure(kind=FailureKind.BUSINESS, stage="s", error="e", holds=((record(i), 1),)) for i in range(9)]
    return worker, letters, lambda out: sum(len(c.acks) for c in out) == 9


@pytest.mark.parametrize(
    "make",
    [
        *(map_async, partial(map_async, ordering="partition"), arrange),
        *(execute, partial(execute, ordering="partition"), collect, partial(collect, keys=("all",))),
        *(deliver, dead_letters),
    ],
    ids=[
        *("map_async", "map_async-ordered", "arrange"),
        *("execute", "execute-ordered", "collect", "collect-ordered"),
        *("deliver", "dlq"),
    ],
)
async def test_a_worker_is_idle_only_when_everything_can_be_taken(make: Callable[..., Any]):
    """Looked at between any two lines of the runtime: idle means that `take` gives all that is left.

    The engine's thread may look at any moment, and does not look again once it saw an idle worker.
    """
    worker, items, complete = make(LoopBridge())
    early: list[str] = []

    def look(frame: FrameType, event: str, _arg: Any) -> Any:
        path = frame.f_code.co_filename
        if "drakkar_flow/runtime" in path and frame.f_code.co_name not in {"idle", "submit"}:
            if event != "call" and worker.idle and not complete(list(worker._outbox)):
                early.append(f"{path.rpartition('/')[2]}:{frame.f_lineno}")
            return look
        return None

    worker.submit([items[:4]])
    worker.submit([items[4:]])
    sys.settrace(look)
    try:
        for _ in range(2000):
            await asyncio.sleep(0)
            if worker.idle:
                break
    finally:
        sys.settrace(None)
    assert worker.idle
    assert early == []
    assert complete(worker.take())
    assert worker.open == 0
