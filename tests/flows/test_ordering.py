"""Ordering: tasks and calls of one key, or of one partition, go one at a time in the order of their offsets."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drakkar_flow import (
    DrakkarConfig,
    ErrorAction,
    ExecutorTask,
    KafkaPayload,
    PendingContext,
    PrecomputedResult,
    StreamFlow,
)
from drakkar_flow.kernel.ordering import Ordering
from drakkar_flow.model.group import MessageGroup
from drakkar_flow.model.outcome import FailureKind
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorResult
from drakkar_flow.testing import FlowRun, ScriptedExecutor, run_flow
from support.handlers import LANE, keyed, task


def per_record(messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
    """A task for each record, named after it."""
    return [task(f"{message.offset}", message.offset) for message in messages]


def flow(
    arrange: Callable[..., Any] = per_record,
    *,
    on_error: Callable[..., Any] | None = None,
    key: Callable[..., Any] | None = None,
    ordering: Ordering | None = None,
    collect: Callable[..., Any] | None = None,
    **hooks: Any,
) -> StreamFlow:
    """Tasks in order, delivered under their names."""
    return (
        StreamFlow("ordered")
        .arrange(arrange)
        .execute(on_error=on_error, ordering=ordering, key=key)
        .collect(collect or (lambda result: KafkaPayload(data=result.task.task_id)), **hooks)
        .route()
    )


def config(ordering: Ordering = "key", **executor: Any) -> DrakkarConfig:
    """The configuration of an ordered executor."""
    return DrakkarConfig(executor={"ordering": ordering, **executor})


class Shared:
    """An executor that starts what it gets, and gates for what has to wait."""

    def __init__(self, *shut: str, script: Any = None) -> None:
        self.executor = ScriptedExecutor(script)
        for name in shut:
            self.executor.gate(name).shut()

    def open(self, name: str) -> None:
        """Let a task end."""
        self.executor.gate(name).open()


@pytest.mark.parametrize(
    ("ordering", "running", "delivered"), [("unordered", 2, "2345"), ("key", 2, "4"), ("partition", 1, "")], ids=str
)
def test_what_shares_a_key_waits_and_the_others_go_on(ordering: Ordering, running: int, delivered: str) -> None:
    """Keys a b a b c a: while the first two run, only c may; a partition waits as a whole."""
    shared = Shared("0", "1")
    with FlowRun(flow(), keyed("ababca"), executor=shared.executor, config=config(ordering)) as run:
        run.wait_until(lambda: sorted(run.sink().values) == list(delivered))
        run.wait_until(lambda: shared.executor.statistics().running == running)
        assert len(shared.executor.started) == running + len(delivered)
        shared.open("0")
        shared.open("1")
        outcome = run.finish()
    assert outcome.committed == {LANE: 6}
    assert sorted(outcome.values) == list("012345")
    by_key = {"a": "025", "b": "13", "c": "4"} if ordering != "unordered" else {}
    for expected in by_key.values():
        assert [value for value in outcome.values if value in expected] == list(expected)


def test_records_without_a_key_wait_for_nobody() -> None:
    """Nothing was said about their order; ordering by partition is for those who mean the partition."""
    shared = Shared("0", "1")
    with FlowRun(flow(), keyed("    "), executor=shared.executor, config=config()) as run:
        run.wait_until(lambda: sorted(run.sink().values) == ["2", "3"])
        shared.open("0")
        shared.open("1")
        run.finish()


def test_keys_are_of_their_partition() -> None:
    """The same key in two partitions is two keys: offsets have an order only within one."""
    shared = Shared("a-0")

    def arrange(messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        return [task("ab"[message.partition] + f"-{message.offset}", message.offset) for message in messages]

    both = keyed("xx") + keyed("xx", partition=1)
    with FlowRun(flow(arrange), both, partitions=2, executor=shared.executor, config=config()) as run:
        run.wait_until(lambda: run.sink().values == ["b-0", "b-1"])
        assert "a-1" not in shared.executor.started
        shared.open("a-0")
        assert run.finish().values == ["b-0", "b-1", "a-0", "a-1"]


def test_a_task_waits_for_every_key_of_its_keyed() -> None:
    """One task for a and b between tasks of a, b and c: it waits for both, both wait for it, c does not."""
    names = {0: "a0", 1: "b1", 2: "ab", 4: "a4", 5: "b5", 6: "c6"}

    def arrange(messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        return [task(name, offset, *([3] if name == "ab" else [])) for offset, name in names.items()]

    shared = Shared("a0", "b1", "ab")
    with FlowRun(flow(arrange), keyed("ababab" + "c"), executor=shared.executor, config=config()) as run:
        run.wait_until(lambda: run.sink().values == ["c6"])
        assert sorted(shared.executor.started) == ["a0", "b1", "c6"]
        shared.open("a0")
        run.wait_until(lambda: "a0" in run.sink().values)
        assert "ab" not in shared.executor.started
        shared.open("b1")
        run.wait_until(lambda: "ab" in shared.executor.started)
        assert not {"a4", "b5"} & set(shared.executor.started)
        shared.open("ab")
        assert sorted(run.finish().values[3:]) == ["a4", "ab", "b5"]


def test_tasks_go_by_offset_whatever_the_order_arrange_lists_them_in() -> None:
    """The offsets' order is the promise; several tasks of one record go as they are listed."""

    def arrange(messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        return [task("2", 2), task("1-second", 1), task("1-first", 1), task("0+3", 3, 0)]

    outcome = run_flow(flow(arrange), keyed("aaaa"), executor=ScriptedExecutor(), config=config())
    assert outcome.values == ["0+3", "1-second", "1-first", "2"]


def test_a_retry_keeps_its_place() -> None:
    """While a task is parked, those behind it wait; other keys do not."""
    shared = Shared("0", script={"0": [1, 1, "fine"]})
    chain = flow(on_error=lambda task, error: ErrorAction.RETRY)
    with FlowRun(chain, keyed("aba"), executor=shared.executor, config=config()) as run:
        run.wait_until(lambda: run.sink().values == ["1"])
        shared.open("0")
        assert run.finish().values == ["1", "0", "2"]
    assert shared.executor.started == ["0", "1", "0", "0", "2"]


def test_replacements_take_the_place_of_their_task_one_after_the_other() -> None:
    """Also when one of them is replaced in turn, and when one needs no process."""
    replaced = {
        "0": [task("0.1", 0), task("0.2", 0, precomputed=PrecomputedResult()), task("0.3", 0)],
        "0.1": [task("0.1.1", 0), task("0.1.2", 0)],
        "0.3": [],
    }
    executor = ScriptedExecutor(dict.fromkeys(replaced, 1))
    chain = flow(on_error=lambda failed, error: replaced[failed.task_id])
    outcome = run_flow(chain, keyed("aa"), executor=executor, config=config())
    assert outcome.values == ["0.1.1", "0.1.2", "0.2", "1"]
    assert executor.started == ["0", "0.1", "0.1.1", "0.1.2", "0.3", "1"]
    assert executor.peak == 1
    assert outcome.committed == {LANE: 2}


def test_replacements_of_a_task_without_a_key_wait_for_nobody() -> None:
    """Nor for each other: the second ends while the first still runs."""
    executor = ScriptedExecutor({"0": 1})
    executor.gate("a").shut()
    chain = flow(on_error=lambda failed, error: [task("a", 0), task("b", 0)])
    with FlowRun(chain, keyed(" "), executor=executor, config=config()) as run:
        run.wait_until(lambda: run.sink().values == ["b"])
        executor.gate("a").open()
        assert run.finish().values == ["b", "a"]


def test_precomputed_tasks_keep_the_order_too() -> None:
    """They overtake no task of their key, and nobody waits for them."""

    def arrange(messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        return [
            task(f"{message.offset}", message.offset, precomputed=PrecomputedResult() if message.offset else None)
            for message in messages
        ]

    shared = Shared("0")
    with FlowRun(flow(arrange), keyed("aab"), executor=shared.executor, config=config()) as run:
        run.wait_until(lambda: run.sink().values == ["2"])
        shared.open("0")
        assert run.finish().values == ["2", "0", "1"]


def test_a_long_line_of_tasks_that_end_at_once_does_not_exhaust_the_stack() -> None:
    """5,000 precomputed tasks wait behind one of their key, then all end in one turn of the loop."""

    def arrange(messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        given = PrecomputedResult()
        return [task(f"{m.offset}", m.offset, precomputed=given if m.offset else None) for m in messages]

    shared = Shared("0")
    with FlowRun(flow(arrange), keyed("a" * 5000), executor=shared.executor, config=config()) as run:
        run.wait_until(lambda: run.in_flight.records == 5000)
        shared.open("0")
        outcome = run.finish()
    assert outcome.values == [str(offset) for offset in range(5000)]
    assert outcome.committed == {LANE: 5000}


def test_waiting_for_ones_turn_takes_no_slot_and_no_place_in_the_executors_queue() -> None:
    """Nine of ten tasks of a hot key wait, the executor knows of one."""
    shared = Shared("0")
    with FlowRun(flow(), keyed("a" * 10), executor=shared.executor, config=config()) as run:
        run.wait_until(lambda: run.in_flight.records == 10 and shared.executor.started)
        assert shared.executor.statistics()[:2] == (1, 0)
        shared.open("0")
        run.finish()
    assert shared.executor.peak == 1


def test_on_task_complete_is_called_for_one_of_a_key_at_a_time_so_payloads_keep_the_order() -> None:
    """A slow hook holds up those of its key only, however fast the tasks are."""
    slow = asyncio.Event()

    async def collect(result: ExecutorResult) -> KafkaPayload:
        if result.task.task_id == "0":
            await slow.wait()
        return KafkaPayload(data=result.task.task_id)

    with FlowRun(flow(collect=collect), keyed("aaba"), executor=ScriptedExecutor(), config=config()) as run:
        run.wait_until(lambda: run.sink().values == ["2"])
        run.call(slow.set)
        assert run.finish().values == ["2", "0", "1", "3"]


def test_records_complete_in_order_as_well() -> None:
    """on_message_complete is called in the order in which the tasks of a key ended."""
    completed = []

    async def complete(group: MessageGroup) -> None:
        completed.append(group.source_message.offset)

    executor = ScriptedExecutor(lambda task: 1 if int(task.task_id) % 3 == 1 else "")
    chain = flow(on_message_complete=complete)
    run_flow(chain, keyed("a" * 50), executor=executor, config=config(window_size=7))
    assert completed == list(range(50))


def test_a_flow_orders_by_a_key_of_its_own() -> None:
    """key(record) sees the payload; None stands for no key; without ordering= it means ordering by key."""
    shared = Shared("0")
    by_parity = (
        StreamFlow("parity")
        .decode(int)
        .arrange(per_record)
        .execute(key=lambda record: None if record.payload == 4 else record.payload % 2)
        .collect(lambda result: KafkaPayload(data=result.task.task_id))
        .route()
    )
    with FlowRun(by_parity, range(6), executor=shared.executor) as run:
        run.wait_until(lambda: sorted(run.sink().values) == ["1", "3", "4", "5"])
        shared.open("0")
        assert run.finish().values[4:] == ["0", "2"]


@pytest.mark.parametrize("key", [lambda record: 1 // record.offset, lambda record: [] if not record.offset else 1])
def test_a_record_whose_key_is_not_to_be_had_is_a_dead_letter(key: Callable[..., Any]) -> None:
    """A key function that raises or returns what is no key: nothing runs out of order, nothing is lost."""
    executor = ScriptedExecutor()
    outcome = run_flow(flow(key=key), keyed("aa"), executor=executor)
    (letter,) = outcome.dead_letters
    assert letter.kind is FailureKind.TASK
    assert "the key function raised" in letter.error
    assert executor.started == ["1"]
    assert outcome.committed == {LANE: 2}


def test_a_revoked_partitions_line_is_given_up_without_a_run() -> None:
    """Those that wait behind a running task when the partition is taken away are fenced, not run."""
    shared = Shared("0")
    with FlowRun(flow(), keyed("aaa"), executor=shared.executor, config=config(), open_end=True) as run:
        run.wait_until(lambda: run.in_flight.records == 3 and shared.executor.started)
        run.reader.revoke()
        shared.open("0")
        run.wait_until(lambda: run.in_flight.records == 0)
        assert (run.sink().values, run.reader.committed) == ([], {})
    assert shared.executor.started == ["0"]


def test_order_holds_with_several_engine_threads() -> None:
    """A partition has the same partition always, so its keys meet whoever works on it."""
    both = keyed("abcabcabcabc" * 5) + keyed("aabbccaabbcc" * 5, partition=1)
    several = DrakkarConfig(executor={"ordering": "key", "window_size": 3}, runtime={"workers": 2})
    chance = random.Random(3)
    flaky = ScriptedExecutor(lambda task: 1 if chance.random() < 0.3 else "")
    chain = flow(
        lambda messages, pending: [task(f"{m.partition} {m.key} {m.offset}", m.offset) for m in messages],
        on_error=lambda task, error: ErrorAction.RETRY,
    )
    outcome = run_flow(chain, both, partitions=2, executor=flaky, config=several)
    assert outcome.committed == {("input", 0): 60, ("input", 1): 60}
    delivered: dict[str, list[int]] = defaultdict(list)
    for value in outcome.values:
        key, _, offset = value.rpartition(" ")
        delivered[key].append(int(offset))
    assert len(delivered) == 6
    assert all(offsets == sorted(offsets) for offsets in delivered.values())


@settings(max_examples=40, deadline=None)
@given(
    keys=st.text(" abc", min_size=1, max_size=30),
    ordering=st.sampled_from(["key", "partition"]),
    window=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_whatever_fails_and_however_long_it_takes_a_key_keeps_its_order(
    keys: str, ordering: Ordering, window: int, seed: int
) -> None:
    """Random durations, failures, retries, replacements: one at a time per key, delivered by offset, nothing lost."""
    chance = random.Random(seed)
    at_once: dict[Any, int] = defaultdict(int)

    def key_of(offset: int) -> Any:
        return "all" if ordering == "partition" else keys[offset] if keys[offset] != " " else (offset, chance.random())

    def script(running: ExecutorTask) -> Any:
        return chance.choice(["", "", 1])

    def on_error(failed: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
        offset = failed.source_offsets[0]
        answers: list[ErrorAction | list[ExecutorTask]] = [
            ErrorAction.RETRY,
            ErrorAction.SKIP,
            [task(f"{offset}", offset), task(f"{offset}", offset)],
        ]
        return chance.choice(answers)

    async def collect(result: ExecutorResult) -> KafkaPayload:
        offset = result.task.source_offsets[0]
        key = key_of(offset)
        at_once[key] += 1
        assert at_once[key] == 1
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        at_once[key] -= 1
        return KafkaPayload(data=offset)

    chain = flow(on_error=on_error, ordering=ordering, collect=collect)
    outcome = run_flow(
        chain, keyed(keys), executor=ScriptedExecutor(script), config=config(window_size=window, max_retries=2)
    )
    assert outcome.committed == {LANE: len(keys)}
    assert outcome.dead_letters == []
    for key in {key_of(offset) for offset in range(len(keys))}:
        delivered = [offset for offset in outcome.values if key_of(offset) == key]
        assert delivered == sorted(delivered)
