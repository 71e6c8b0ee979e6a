"""Windows: how records are gathered for arrange, what it sees, and what waits for a window's end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from drakkar_flow import (
    KafkaPayload,
    PendingContext,
    StreamFlow,
    Window,
)
from drakkar_flow.model.group import MessageGroup
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorResult, ExecutorTask
from drakkar_flow.observe.events.tasks import WindowFinished
from drakkar_flow.testing import FlowRun, MemorySink, ScriptedExecutor, run_flow
from support.handlers import LANE, PerRecord, Watching, config, task


def test_d07_records_without_tasks_commit_and_complete_empty() -> None:
    """D-7: no tasks for 3 messages: all commit, each completes empty, no window completes."""

    class Nothing(Watching):
        def tasks(self, messages: list[Record]) -> list[ExecutorTask]:
            return []

    handler = Nothing()
    outcome = run_flow(handler, [1, 2, 3])
    assert outcome.committed == {LANE: 3}
    assert [group.is_empty for group in handler.groups] == [True] * 3
    assert handler.window_ends == []
    assert outcome.of(WindowFinished) == []
    assert outcome.values == []


def test_d09_windows_of_one_arrange_every_record_in_order() -> None:
    """D-9: window_size=1: one arrange per message, in the order of the offsets."""
    handler = PerRecord()
    outcome = run_flow(handler, range(20), config=config(1))
    assert handler.windows == [[offset] for offset in range(20)]
    assert outcome.committed == {LANE: 20}


@pytest.mark.parametrize("change", [list.clear, list.reverse, list.pop], ids=["clear", "reverse", "pop"])
def test_arrange_may_do_with_its_list_of_messages_what_it_likes(change: Callable[[list[Record]], object]) -> None:
    """The list is its own: `while messages: messages.pop()` takes no record out of the window."""

    class Greedy(Watching):
        async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
            tasks = self.tasks(messages)
            change(messages)
            return tasks

    handler = Greedy()
    outcome = run_flow(handler, range(3))
    assert outcome.values == ["t0", "t1", "t2"]
    assert handler.window_ends == [(3, [0, 1, 2])]
    assert outcome.committed == {LANE: 3}


def test_windows_hold_at_most_their_size_and_take_what_is_there() -> None:
    """What is there is cut into windows of the size; the rest makes a smaller one."""
    handler = PerRecord()
    run_flow(handler, range(10), config=config(4))
    assert [len(window) for window in handler.windows] == [4, 4, 2]
    assert [offset for window in handler.windows for offset in window] == list(range(10))


def test_the_flows_window_outweighs_the_configurations() -> None:
    """arrange(window=Window(...)) wins over executor.window_size."""
    sizes = []

    def arrange(records: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        sizes.append(len(records))
        return []

    flow = StreamFlow("own").arrange(arrange, window=Window(size=3, linger_s=0)).execute().collect().route()
    run_flow(flow, range(6), config=config(100, 60.0))
    assert sizes == [3, 3]


def test_an_incomplete_window_waits_for_its_linger_and_then_goes() -> None:
    """Records that came one by one within linger_s are arranged together; nothing more is waited for."""
    handler = PerRecord()
    with FlowRun(handler, config=config(100, 0.2), open_end=True) as run:
        run.reader.put([1])
        run.wait_until(lambda: run.in_flight.records == 1)
        run.reader.put([2])
        run.wait_until(lambda: run.reader.committed == {LANE: 2})
        assert handler.windows == [[0, 1]]


def test_a_full_window_does_not_wait_for_its_linger() -> None:
    """Enough records end the waiting at once."""
    handler = PerRecord()
    with FlowRun(handler, range(6), config=config(3, 600.0), open_end=True) as run:
        run.wait_until(lambda: run.reader.committed == {LANE: 6})
        run.reader.put([7, 8])
        run.wait_until(lambda: run.in_flight.records == 2)
        assert handler.windows == [[0, 1, 2], [3, 4, 5]]
        run.reader.put([9])
        run.wait_until(lambda: run.reader.committed == {LANE: 9})
    assert handler.windows[2:] == [[6, 7, 8]]


def test_a_linger_that_was_cut_short_does_not_end_the_next_window_early() -> None:
    """The timer of a window that filled up is gone: the next one has its own."""
    handler = PerRecord()
    with FlowRun(handler, [1], config=config(2, 0.15), open_end=True) as run:
        run.wait_until(lambda: run.in_flight.records == 1)
        run.reader.put([2, 3])
        run.wait_until(lambda: run.reader.committed == {LANE: 2})
        run.reader.put([4])
        run.wait_until(lambda: run.reader.committed == {LANE: 4})
    assert handler.windows == [[0, 1], [2, 3]]


def test_arrange_is_serial_in_a_partition_and_parallel_between_partitions() -> None:
    """While one partition's arrange waits, its next window waits and the other partition goes on."""
    running: Counter[Any] = Counter()
    peak: Counter[Any] = Counter()

    class Slow(PerRecord):
        async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
            topic_partition = messages[0].partition
            running[topic_partition] += 1
            peak[topic_partition] = max(peak[topic_partition], running[topic_partition])
            peak["all"] = max(peak["all"], running[0] + running[1])
            if topic_partition == 0:
                await gate.wait()
            else:
                await asyncio.sleep(0)
            running[topic_partition] -= 1
            self.windows.append([record.label for record in messages])  # type: ignore[misc]  # labels name the partition too
            return []

    gate = asyncio.Event()
    handler = Slow()
    with FlowRun(handler, range(12), partitions=2, config=config(2)) as run:
        run.wait_until(lambda: run.reader.committed == {("input", 1): 6})
        assert peak == {0: 1, 1: 1, "all": 2}
        run.call(gate.set)
        outcome = run.finish()
    assert outcome.committed == {("input", 0): 6, ("input", 1): 6}
    assert peak[0] == 1
    windows: list[Any] = handler.windows
    first = [window for window in windows if window[0].startswith("input:0")]
    assert first == [[f"input:0:{i}", f"input:0:{i + 1}"] for i in (0, 2, 4)]


def test_d10_windows_overlap() -> None:
    """D-10: the second arrange happens while the first window's tasks still run, and nothing is committed yet."""
    handler = PerRecord()
    executor = ScriptedExecutor()
    executor.gate("t0").shut()
    with FlowRun(handler, [1, 2], executor=executor, config=config(1)) as run:
        run.wait_until(lambda: run.sink().values == ["t1"])
        assert handler.windows == [[0], [1]]
        assert run.reader.committed == {}
        executor.gate("t0").open()
        outcome = run.finish()
    assert outcome.values == ["t1", "t0"]
    assert [mark.offset for mark in run.reader.commits] == [2]


def test_d12_arrange_sees_the_tasks_that_still_run() -> None:
    """D-12: the second arrange's context holds the first window's running tasks, not those that ended."""

    class Two(PerRecord):
        def tasks(self, messages: list[Record]) -> list[ExecutorTask]:
            return [task(f"{name}{record.offset}", record.offset) for record in messages for name in "ab"]

    handler = Two()
    executor = ScriptedExecutor()
    executor.gate("a0").shut()
    with FlowRun(handler, [1], executor=executor, config=config(1), open_end=True) as run:
        run.wait_until(lambda: run.sink().values == ["b0"])
        run.reader.put([2])
        run.wait_until(lambda: len(run.sink().values) == 3)
        executor.gate("a0").open()
        run.wait_until(lambda: run.reader.committed == {LANE: 2})
        run.reader.put([3])
        run.reader.end()
        run.finish()
    assert handler.pending == [set(), {"a0"}, set()]


def test_a_task_whose_result_is_being_collected_is_not_pending() -> None:
    """Pending are the tasks that still run, not those whose hook still waits."""

    class Collecting(PerRecord):
        async def on_task_complete(self, result: ExecutorResult) -> None:
            collecting.append(result.task.task_id)
            if result.task.task_id == "t0":
                await gate.wait()

    gate = asyncio.Event()
    collecting: list[str] = []
    handler = Collecting()
    with FlowRun(handler, [1], config=config(1), open_end=True) as run:
        run.wait_until(lambda: collecting)
        run.reader.put([2])
        run.wait_until(lambda: len(handler.pending) == 2)
        run.call(gate.set)
        run.wait_until(lambda: run.reader.committed == {LANE: 2})
    assert handler.pending == [set(), set()]


def test_earlier_records_go_first() -> None:
    """A task's priority is the lowest offset it works for; one that names none comes first."""

    class Some(PerRecord):
        def tasks(self, messages: list[Record]) -> list[ExecutorTask]:
            return [task("late", 2, 1), task("none"), task("early", 2, 0)]

    executor = ScriptedExecutor()
    run_flow(Some(), range(3), executor=executor)
    assert executor.priorities == {"late": 1, "none": 0, "early": 0}


def test_d11_a_windows_payloads_reach_the_sinks_before_its_offsets_are_committed() -> None:
    """D-11: on_window_complete gets all results and records; its payload keeps the whole window back."""

    class Summing(PerRecord):
        async def on_task_complete(self, result: ExecutorResult) -> None:
            return None

        async def on_window_complete(
            self, results: list[ExecutorResult], source_messages: list[Record]
        ) -> KafkaPayload:
            ids = [result.task.task_id for result in results]
            return KafkaPayload(data=[sorted(ids), [record.offset for record in source_messages]])

    sink = MemorySink()
    sink.gate.shut()
    with FlowRun(Summing(), range(3), sinks=[sink]) as run:
        run.wait_until(lambda: sink.gate.waiting)
        assert run.reader.committed == {}
        sink.gate.open()
        outcome = run.finish()
    assert outcome.values == [[["t0", "t1", "t2"], [0, 1, 2]]]
    assert outcome.committed == {LANE: 3}


def test_a_windows_records_wait_for_a_window_hook_that_takes_its_time() -> None:
    """No record of the window is committed before on_window_complete has answered, with or without payloads."""

    class Waiting(PerRecord):
        async def on_window_complete(self, results: list[ExecutorResult], source_messages: list[Record]) -> None:
            await gate.wait()

    gate = asyncio.Event()
    with FlowRun(Waiting(), range(3)) as run:
        run.wait_until(lambda: len(run.sink().values) == 3)
        assert run.reader.committed == {}
        run.call(gate.set)
        assert run.finish().committed == {LANE: 3}


def test_a_record_waits_for_its_own_hook_when_the_windows_hook_was_faster() -> None:
    """on_message_complete may end after on_window_complete: the record waits for both, and for both payloads."""

    class Both(PerRecord):
        async def on_message_complete(self, group: MessageGroup) -> KafkaPayload:
            if group.source_message.offset == 0:
                await gate.wait()
            return KafkaPayload(data=f"m{group.source_message.offset}")

        async def on_window_complete(
            self, results: list[ExecutorResult], source_messages: list[Record]
        ) -> KafkaPayload:
            return KafkaPayload(data="w")

    gate = asyncio.Event()
    with FlowRun(Both(), range(2)) as run:
        run.wait_until(lambda: sorted(run.sink().values) == ["m1", "t0", "t1", "w"])
        assert run.reader.committed == {}
        run.call(gate.set)
        outcome = run.finish()
    assert sorted(outcome.values) == ["m0", "m1", "t0", "t1", "w"]
    assert outcome.committed == {LANE: 2}


def test_records_without_tasks_wait_for_the_window_of_the_others() -> None:
    """In a window with tasks also a record without any waits for the window's hook."""

    class Half(Watching):
        def tasks(self, messages: list[Record]) -> list[ExecutorTask]:
            return [task("t0", 0)]

        async def on_window_complete(self, results: list[ExecutorResult], source_messages: list[Record]) -> None:
            await super().on_window_complete(results, source_messages)
            await gate.wait()

    gate = asyncio.Event()
    handler = Half()
    with FlowRun(handler, range(2)) as run:
        run.wait_until(lambda: handler.window_ends)
        assert len(handler.groups) == 2
        assert run.reader.committed == {}
        run.call(gate.set)
        outcome = run.finish()
    assert outcome.committed == {LANE: 2}
    assert handler.window_ends == [(1, [0, 1])]
    assert [(event.topic_partition, event.records, event.tasks) for event in outcome.of(WindowFinished)] == [
        (LANE, 2, 1)
    ]
