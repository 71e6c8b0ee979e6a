"""Chains of async steps: what the engine's thread sees of them, and that every step answers for its items."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from drakkar_flow.config.sections.delivery import CircuitBreakerConfig, RetryConfig
from drakkar_flow.errors import SinkError
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.kernel.retry import RetryPolicy
from drakkar_flow.model.outcome import Ack, Delivery, Failure, FailureKind
from drakkar_flow.model.record import FULL_CREDIT, Record
from drakkar_flow.model.task import ErrorAction, ExecutorResult, ExecutorTask
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.chunk import Chunk
from drakkar_flow.runtime.steps.arrange import ArrangeStep
from drakkar_flow.runtime.steps.chain import Chain, chain_logic
from drakkar_flow.runtime.steps.circuit import Circuit
from drakkar_flow.runtime.steps.collect import CollectHooks, CollectStep
from drakkar_flow.runtime.steps.context import StepContext
from drakkar_flow.runtime.steps.deadletter import DeadLetterStep
from drakkar_flow.runtime.steps.deliver import DeliverSettings, DeliverStep
from drakkar_flow.runtime.steps.execute import ExecuteSettings, ExecuteStep
from drakkar_flow.runtime.steps.retry_queue import RetryQueue
from drakkar_flow.runtime.steps.step import AsyncStep
from drakkar_flow.runtime.steps.task_order import keys_of
from drakkar_flow.runtime.steps.transform import MapAsyncStep
from drakkar_flow.runtime.steps.windows import TaskEnd, WindowRun
from drakkar_flow.sinks.kafka.payload import KafkaPayload
from drakkar_flow.testing import MemoryDeadLetters, MemorySink, ScriptedExecutor
from support.steps import Alone, context_of

pytestmark = pytest.mark.anyio

Case = tuple[AsyncStep[Any, Any], list[Any], Callable[[Chunk[Any]], bool]]
NO_PAUSE = Backoff(initial_s=1e-6, max_s=1e-6)


@pytest.fixture
def anyio_backend() -> str:
    """The loop the runtime runs on."""
    return "asyncio"


class Echo(AsyncStep[Any, Any]):
    """Answers when it is asked to."""

    def __init__(self, context: StepContext, step_id: str = "echo") -> None:
        super().__init__(context, step_id)
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


def hold(offset: int) -> tuple[Record, int]:
    """Some credit."""
    return Record("in", 0, offset), 1


def failure() -> Failure:
    """Some failure."""
    return Failure(kind=FailureKind.BUSINESS, stage="s", error="e", tokens=())


async def turn() -> None:
    """Let everything posted run."""
    for _ in range(3):
        await asyncio.sleep(0)


class Engine:
    """A chain of echoes as the engine sees it: one Bytewax logic."""

    def __init__(self, count: int = 1, *, policies: bool = False) -> None:
        self.context = context_of()
        self.steps = [Echo(self.context, f"echo-{number}") for number in range(count)]
        for step, following in pairwise(self.steps):
            step.to(following)
        self.chain = Chain(self.context, self.steps, self.steps[-1].inbox if policies else None)
        self.bell = self.context.in_flight.engine.bell()
        self.logic = chain_logic(lambda: self.chain, self.context.in_flight)

    @property
    def rang(self) -> bool:
        """Whether a bell has rung since the last look."""
        return self.bell.wait(0.2)


# --- the engine's side ----------------------------------------------------------------------------------


async def test_failures_and_acks_pass_by_at_once_while_items_wait() -> None:
    """What a chain without a route does not look at never waits for what it works on."""
    engine = Engine()
    chunk = Chunk(["a"], [failure()], [Ack(*hold(1))])
    (passed,), discard = engine.logic.on_batch([chunk])
    assert (passed.items, passed.failures, passed.acks, discard) == ([], chunk.failures, chunk.acks, False)
    await turn()
    assert engine.steps[0].seen == ["a"]
    assert engine.logic.on_notify() == ([], False)


async def test_a_chain_with_a_route_takes_the_failures_of_the_steps_before_it() -> None:
    """Only acks pass it by; a failure goes to the step that applies the policies."""
    engine = Engine(2, policies=True)
    chunk: Chunk[Any] = Chunk([], [failure()], [Ack(*hold(1))])
    (passed,), _ = engine.logic.on_batch([chunk])
    assert (passed.failures, passed.acks) == ([], chunk.acks)
    await turn()
    assert [step.seen for step in engine.steps] == [[], chunk.failures]


async def test_a_key_of_the_store_that_gets_no_item_ends_itself() -> None:
    """It may be of a cluster of another size; nothing is made for it."""
    made: list[Chain] = []
    engine = Engine()

    def make() -> Chain:
        made.append(engine.chain)
        return engine.chain

    logic = chain_logic(make, engine.context.in_flight)
    assert logic.notify_at() is not None
    assert logic.on_notify() == ([], True)
    assert not made
    logic.on_batch([Chunk(["a"])])
    assert logic.on_notify() == ([], False)
    assert made == [engine.chain]


async def test_a_chunk_without_items_never_reaches_the_loop() -> None:
    """Its acks are passed on, and nobody is woken."""
    engine = Engine()
    out, _ = engine.logic.on_batch([Chunk(acks=[Ack(*hold(1))]), Chunk()])
    await turn()
    assert [chunk.acks for chunk in out] == [[Ack(*hold(1))]]
    assert engine.chain.take() == []


async def test_answers_come_back_together_once_and_wake_the_engine() -> None:
    """What was answered in one turn of the loop is one chunk; it is taken once."""
    engine = Engine()
    (step,) = engine.steps
    assert engine.logic.on_batch([Chunk([1, 2]), Chunk([3])]) == ([], False)
    await turn()
    assert not bool(engine.rang)
    step.answer(1, 2, 3)
    step.fail(failure())
    step.ack([hold(7)])
    await turn()
    assert engine.rang
    (chunk,), _ = engine.logic.on_notify()
    assert (chunk.items, len(chunk.failures), chunk.acks) == ([1, 2, 3], 1, [Ack(*hold(7))])
    assert engine.logic.on_notify() == ([], False)
    assert not engine.rang


async def test_items_pass_from_step_to_step_without_the_engine() -> None:
    """Each step's answers are the next one's items; the engine sees what the last one answers."""
    engine = Engine(3)
    engine.logic.on_batch([Chunk(["a", "b"])])
    await turn()
    first, second, third = engine.steps
    first.answer("b", "a")
    await turn()
    assert (second.seen, third.seen, engine.chain.has_results) == (["b", "a"], [], False)
    second.answer("c")
    second.fail(failure())
    await turn()
    assert third.seen == ["c"]
    assert [len(chunk.failures) for chunk in engine.chain.take()] == [1]
    third.answer("d")
    await turn()
    assert [chunk.items for chunk in engine.chain.take()] == [["d"]]


async def test_one_turn_of_the_loop_takes_an_item_through_all_steps_that_do_not_wait() -> None:
    """No step waits for a turn of its own."""

    class Direct(Echo):
        def accept(self, items: list[Any]) -> None:
            super().accept(items)
            self.answer(*items)

    context = context_of()
    steps = [Direct(context) for _ in range(4)]
    for step, following in pairwise(steps):
        step.to(following)
    chain = Chain(context, steps)
    chain.submit([Chunk(["a"])])
    await asyncio.sleep(0)
    assert [chunk.items for chunk in chain.take()] == [["a"]]


async def test_a_step_that_raises_takes_nothing_from_the_others() -> None:
    """The flow ends, for what the step was given is lost; what others have answered still leaves the chain."""

    class Failing(Echo):
        def accept(self, items: list[Any]) -> None:
            raise LookupError

    context = context_of()
    first, second, third = steps = [Echo(context), Failing(context), Echo(context)]
    first.to(second)
    second.to(third)
    chain = Chain(context, steps)
    chain.submit([Chunk(["a"])])
    await turn()
    first.answer("a")
    first.ack([hold(1)])
    second.emit("b")
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, about: raised.append(type(about["exception"])))
    await turn()
    await turn()
    assert raised == [LookupError]
    assert (third.seen, [len(chunk.acks) for chunk in chain.take()]) == (["b"], [1])


async def test_the_engine_is_asked_to_look_in_every_turn_while_a_record_is_unfinished() -> None:
    """It sleeps in the source; where nothing is in flight, the chain asks for nothing."""
    engine = Engine()
    engine.logic.on_batch([Chunk()])
    assert engine.logic.notify_at() is None
    in_flight = engine.context.in_flight
    in_flight.add((("in", 0), 0), [hold(1)[0]])
    due = engine.logic.notify_at()
    assert due is not None
    assert due < datetime.now(UTC)
    in_flight.release((("in", 0), 0), 1, 0)
    assert engine.logic.notify_at() is None


async def test_progress_without_a_result_wakes_the_engine_only_where_it_waits_for_room() -> None:
    """A task that ended may have made room for another, long before its record is finished."""
    engine = Engine(2)
    engine.logic.on_batch([Chunk(["a", "b"])])
    await turn()
    engine.steps[0].answer("a")
    await turn()
    assert not engine.rang
    engine.context.in_flight.engine.for_room = True
    engine.steps[0].answer("b")
    await turn()
    assert engine.rang


async def test_the_end_gives_what_is_finished_and_keeps_nothing() -> None:
    """What is still open at the end is left out; a snapshot holds nothing."""
    engine = Engine()
    engine.logic.on_batch([Chunk([1, 2])])
    await turn()
    engine.steps[0].answer(1)
    await turn()
    (chunk,), discard = engine.logic.on_eof()
    assert (chunk.items, discard) == ([1], True)
    assert engine.logic.snapshot() is None


# --- every step answers for everything ------------------------------------------------------------------


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


def map_async(context: StepContext, ordering: Any = "unordered") -> Case:
    """map_async over 9 records; answered: each record emitted or failed."""
    step = MapAsyncStep(
        context, "s", sometimes, max_in_flight=2, timeout_s=None, with_record=False, keys=keys_of(ordering)
    )
    return step, [record(i) for i in range(9)], lambda out: len(out.items) + len(out.failures) == 9


def arrange(context: StepContext) -> Case:
    """arrange over 9 records in windows of 2."""

    async def function(records: list[Record], _pending: Any) -> list[ExecutorTask]:
        await sometimes(records[0].offset + 1)
        return [task(r.offset) for r in records]

    def complete(out: Chunk[Any]) -> bool:
        failed = sum(len(f.tokens) for f in out.failures)
        return sum(len(item.records) for item in out.items if type(item) is WindowRun) + failed == 9

    step = ArrangeStep(context, "s", function, 2, 0.0, keep_messages=False)
    return step, [record(i) for i in range(9)], complete


def execute(context: StepContext, ordering: Any = "unordered") -> Case:
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
    parking = RetryQueue(context.loop_thread, context.in_flight, limit=9)
    step = ExecuteStep(context, "s", parking, executor, settings)

    def complete(out: Chunk[Any]) -> bool:
        replaced = sum(item.ending is TaskEnd.REPLACED for item in out.items if item is not window)
        return len(out.items) == 1 + 9 + replaced and window in out.items

    return step, [window, *runs], complete


def collect(context: StepContext, keys: Any = ()) -> Case:
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
        runs.append(run.end(TaskEnd.SUCCEEDED, result=ExecutorResult(task=run.task)))
    hooks = CollectHooks("s", sometimes, on_message, on_window)
    step = CollectStep(context, hooks)

    def complete(out: Chunk[Any]) -> bool:
        tokens = [share for item in (*out.items, *out.failures) for _, share in item.tokens]
        return bool(sum(tokens) + sum(a.credit for a in out.acks) == 9 * FULL_CREDIT)

    return step, [window, *runs], complete


def deliver(context: StepContext) -> Case:
    """deliver with retries; complete: 9 acks or failures."""
    sink = MemorySink(script=[SinkError("x"), None, SinkError("x"), SinkError("x"), SinkError("x")])
    settings = DeliverSettings("kafka", "out", 2, 2, RetryConfig(attempts=2).attempts, NO_PAUSE)
    circuit = Circuit(Bus(), "kafka", "out", CircuitBreakerConfig())
    step = DeliverStep(context, "s", sink, settings, circuit)
    items = [Delivery(KafkaPayload(data=i), ((record(i), 1),)) for i in range(9)]
    return step, items, lambda out: len(out.acks) + len(out.failures) == 9


def dead_letters(context: StepContext) -> Case:
    """dead letters with a topic that fails twice; complete: 9 acks."""
    writer = MemoryDeadLetters([OSError("x"), OSError("x")])
    step = DeadLetterStep(context, writer, NO_PAUSE, drop=False)
    letters = [Failure(kind=FailureKind.BUSINESS, stage="s", error="e", tokens=((record(i), 1),)) for i in range(9)]
    return step, letters, lambda out: len(out.acks) == 9


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
async def test_a_step_answers_for_everything_once(make: Callable[..., Any]) -> None:
    """Whatever its functions do, each item is emitted, failed or acknowledged, and nothing stays open."""
    context = context_of()
    step, items, complete = make(context)
    alone = Alone(step, context)
    alone.put(*items[:4])
    alone.put(*items[4:])
    async with asyncio.timeout(20):
        while not alone.idle:  # noqa: ASYNC110 - a step has no event for its end
            await asyncio.sleep(0)
    assert complete(alone.take())
    assert step.open == 0
