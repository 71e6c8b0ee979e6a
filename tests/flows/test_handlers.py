"""Handlers: windows, tasks, hooks and what of them keeps an offset back."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from drakkar_flow import (
    CollectResult,
    DrakkarConfig,
    ErrorAction,
    ExecutorTask,
    Handler,
    KafkaPayload,
    PrecomputedResult,
    Record,
    StreamFlow,
    Window,
)
from drakkar_flow.errors import ExecutorClosed
from drakkar_flow.model.outcome import FailureKind
from drakkar_flow.observe.events import HookRan, RecordsFinished, TaskRetried, TasksPrecomputed, WindowFinished
from drakkar_flow.testing import FlowRun, MemorySink, ScriptedExecutor, run_flow

LANE = ("input", 0)


def task(task_id: str, *offsets: int, **settings) -> ExecutorTask:
    """A task for some offsets."""
    return ExecutorTask(task_id=task_id, source_offsets=list(offsets), **settings)


class PerRecord(Handler[int, int]):
    """One task per record, named after its offset; each result is delivered; hooks note what they see."""

    def __init__(self):
        self.windows: list[list[int]] = []
        self.pending: list[set[str]] = []
        self.groups = []
        self.window_ends = []

    async def arrange(self, messages, pending):
        self.windows.append([record.offset for record in messages])
        self.pending.append(pending.pending_task_ids)
        return self.tasks(messages)

    def tasks(self, messages):
        return [task(f"t{record.offset}", record.offset) for record in messages]

    async def on_task_complete(self, result):
        return CollectResult(kafka=[KafkaPayload(data=result.task.task_id)])


class Watching(PerRecord):
    """PerRecord that also notes finished records and windows."""

    async def on_message_complete(self, group):
        self.groups.append(group)

    async def on_window_complete(self, results, source_messages):
        self.window_ends.append((len(results), [record.offset for record in source_messages]))


def config(size: int = 100, linger_s: float = 0.0, **runtime) -> DrakkarConfig:
    """Windows of `size`."""
    return DrakkarConfig(executor={"window_size": size, "window_linger_s": linger_s}, runtime=runtime)


def group_of(handler, offset: int = 0):
    """The MessageGroup of an offset; each is there once."""
    (found,) = [group for group in handler.groups if group.source_message.offset == offset]
    return found


def ends(outcome):
    """How many records ended done, skipped, dead."""
    events = outcome.of(RecordsFinished)
    return tuple(sum(getattr(event, what) for event in events) for what in ("done", "skipped", "dead"))


# --- windows -----------------------------------------------------------------------------------------


def test_d07_records_without_tasks_commit_and_complete_empty():
    """D-7: no tasks for 3 messages: all commit, each completes empty, no window completes."""

    class Nothing(Watching):
        def tasks(self, messages):
            return []

    handler = Nothing()
    outcome = run_flow(handler, [1, 2, 3])
    assert outcome.committed == {LANE: 3}
    assert [group.is_empty for group in handler.groups] == [True] * 3
    assert handler.window_ends == []
    assert outcome.of(WindowFinished) == []
    assert outcome.values == []


def test_d08_an_error_in_on_message_complete_keeps_no_offset():
    """D-8: the hook raises: its record goes to the dead letters and commits, its payloads stay delivered."""

    class Broken(PerRecord):
        async def on_message_complete(self, group):
            raise RuntimeError("hook broke")

    outcome = run_flow(Broken(), [1, 2])
    assert outcome.values == ["t0", "t1"]
    assert outcome.committed == {LANE: 2}
    assert [(letter.kind, letter.stage, letter.error) for letter in outcome.dead_letters] == [
        (FailureKind.HOOK, "collect-on_task_complete.on_message_complete", "hook broke")
    ] * 2


def test_d09_windows_of_one_arrange_every_record_in_order():
    """D-9: window_size=1: one arrange per message, in the order of the offsets."""
    handler = PerRecord()
    outcome = run_flow(handler, range(20), config=config(1))
    assert handler.windows == [[offset] for offset in range(20)]
    assert outcome.committed == {LANE: 20}


def test_windows_hold_at_most_their_size_and_take_what_is_there():
    """What is there is cut into windows of the size; the rest makes a smaller one."""
    handler = PerRecord()
    run_flow(handler, range(10), config=config(4))
    assert [len(window) for window in handler.windows] == [4, 4, 2]
    assert [offset for window in handler.windows for offset in window] == list(range(10))


def test_the_flows_window_outweighs_the_configurations():
    """arrange(window=Window(...)) wins over executor.window_size."""
    sizes = []

    def arrange(records, pending):
        sizes.append(len(records))
        return []

    flow = StreamFlow("own").arrange(arrange, window=Window(size=3, linger_s=0)).execute().collect().route()
    run_flow(flow, range(6), config=config(100, 60.0))
    assert sizes == [3, 3]


def test_an_incomplete_window_waits_for_its_linger_and_then_goes():
    """Records that came one by one within linger_s are arranged together; nothing more is waited for."""
    handler = PerRecord()
    with FlowRun(handler, config=config(100, 0.2), open_end=True) as run:
        run.reader.put([1])
        run.wait_until(lambda: run.flight.records == 1)
        run.reader.put([2])
        run.wait_until(lambda: run.reader.committed == {LANE: 2})
        assert handler.windows == [[0, 1]]


def test_a_full_window_does_not_wait_for_its_linger():
    """Enough records end the waiting at once."""
    handler = PerRecord()
    with FlowRun(handler, range(6), config=config(3, 600.0), open_end=True) as run:
        run.wait_until(lambda: run.reader.committed == {LANE: 6})
        run.reader.put([7, 8])
        run.wait_until(lambda: run.flight.records == 2)
        assert handler.windows == [[0, 1, 2], [3, 4, 5]]
        run.reader.put([9])
        run.wait_until(lambda: run.reader.committed == {LANE: 9})
    assert handler.windows[2:] == [[6, 7, 8]]


def test_a_linger_that_was_cut_short_does_not_end_the_next_window_early():
    """The timer of a window that filled up is gone: the next one has its own."""
    handler = PerRecord()
    with FlowRun(handler, [1], config=config(2, 0.15), open_end=True) as run:
        run.wait_until(lambda: run.flight.records == 1)
        run.reader.put([2, 3])
        run.wait_until(lambda: run.reader.committed == {LANE: 2})
        run.reader.put([4])
        run.wait_until(lambda: run.reader.committed == {LANE: 4})
    assert handler.windows == [[0, 1], [2, 3]]


def test_arrange_is_serial_in_a_partition_and_parallel_between_partitions():
    """While one partition's arrange waits, its next window waits and the other partition goes on."""
    running = Counter()
    peak = Counter()

    class Slow(PerRecord):
        async def arrange(self, messages, pending):
            lane = messages[0].partition
            running[lane] += 1
            peak[lane] = max(peak[lane], running[lane])
            peak["all"] = max(peak["all"], running[0] + running[1])
            if lane == 0:
                await gate.wait()
            else:
                await asyncio.sleep(0)
            running[lane] -= 1
            self.windows.append([record.label for record in messages])
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
    first = [window for window in handler.windows if window[0].startswith("input:0")]
    assert first == [[f"input:0:{i}", f"input:0:{i + 1}"] for i in (0, 2, 4)]


def test_d10_windows_overlap():
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


def test_d12_arrange_sees_the_tasks_that_still_run():
    """D-12: the second arrange's context holds the first window's running tasks, not those that ended."""

    class Two(PerRecord):
        def tasks(self, messages):
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


# --- fan-out, fan-in, groups --------------------------------------------------------------------------


def test_d11_a_windows_payloads_reach_the_sinks_before_its_offsets_are_committed():
    """D-11: on_window_complete gets all results and records; its payload keeps the whole window back."""

    class Summing(PerRecord):
        async def on_task_complete(self, result):
            return None

        async def on_window_complete(self, results, source_messages):
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


def test_a_windows_records_wait_for_a_window_hook_that_takes_its_time():
    """No record of the window is committed before on_window_complete has answered, with or without payloads."""

    class Waiting(PerRecord):
        async def on_window_complete(self, results, source_messages):
            await gate.wait()

    gate = asyncio.Event()
    with FlowRun(Waiting(), range(3)) as run:
        run.wait_until(lambda: len(run.sink().values) == 3)
        assert run.reader.committed == {}
        run.call(gate.set)
        assert run.finish().committed == {LANE: 3}


def test_a_record_waits_for_its_own_hook_when_the_windows_hook_was_faster():
    """on_message_complete may end after on_window_complete: the record waits for both, and for both payloads."""

    class Both(PerRecord):
        async def on_message_complete(self, group):
            if group.source_message.offset == 0:
                await gate.wait()
            return KafkaPayload(data=f"m{group.source_message.offset}")

        async def on_window_complete(self, results, source_messages):
            return KafkaPayload(data="w")

    gate = asyncio.Event()
    with FlowRun(Both(), range(2)) as run:
        run.wait_until(lambda: sorted(run.sink().values) == ["m1", "t0", "t1", "w"])
        assert run.reader.committed == {}
        run.call(gate.set)
        outcome = run.finish()
    assert sorted(outcome.values) == ["m0", "m1", "t0", "t1", "w"]
    assert outcome.committed == {LANE: 2}


def test_records_without_tasks_wait_for_the_window_of_the_others():
    """In a window with tasks also a record without any waits for the window's hook."""

    class Half(Watching):
        def tasks(self, messages):
            return [task("t0", 0)]

        async def on_window_complete(self, results, source_messages):
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
    assert [(event.lane, event.records, event.tasks) for event in outcome.of(WindowFinished)] == [(LANE, 2, 1)]


class FanOut(Watching):
    """Three tasks for each record."""

    def tasks(self, messages):
        return [task(f"{name}{record.offset}", record.offset) for record in messages for name in "abc"]


def test_fan_out_commits_after_the_last_task():
    """A record with three tasks waits for the slowest."""
    executor = ScriptedExecutor()
    executor.gate("b0").shut()
    handler = FanOut()
    with FlowRun(handler, [1], executor=executor) as run:
        run.wait_until(lambda: sorted(run.sink().values) == ["a0", "c0"])
        assert run.reader.committed == {}
        assert handler.groups == []
        executor.gate("b0").open()
        assert run.finish().committed == {LANE: 1}
    assert executor.started == ["a0", "b0", "c0"]


def test_d13_one_of_three_tasks_fails_and_is_skipped():
    """D-13: succeeded 2, failed 1, any_failed, the offset commits."""
    handler = FanOut()
    outcome = run_flow(handler, [1], executor=ScriptedExecutor({"b0": 1}))
    group = group_of(handler)
    assert (group.succeeded, group.failed, group.total, group.replaced) == (2, 1, 3, 0)
    assert group.any_failed
    assert not group.all_succeeded
    assert [error.task.task_id for error in group.errors] == ["b0"]
    assert outcome.committed == {LANE: 1}
    assert sorted(outcome.values) == ["a0", "c0"]
    assert ends(outcome) == (0, 1, 0)


def test_d14_a_retried_task_that_succeeds_completes_once():
    """D-14: two failures, then success: the hook fires once, one success, no failure."""

    class Retrying(Watching):
        async def on_error(self, task, error):
            return ErrorAction.RETRY

    handler = Retrying()
    executor = ScriptedExecutor({"t0": [1, 1, "fine"]})
    outcome = run_flow(handler, [1], executor=executor)
    group = group_of(handler)
    assert (group.succeeded, group.failed, group.total) == (1, 0, 1)
    assert executor.started == ["t0"] * 3
    assert [event.attempt for event in outcome.of(TaskRetried)] == [1, 2]
    assert outcome.values == ["t0"]
    assert outcome.committed == {LANE: 1}
    assert ends(outcome) == (1, 0, 0)


@pytest.mark.parametrize("max_retries", [0, 2])
def test_retries_end_at_their_limit_and_the_task_is_skipped(max_retries):
    """executor.max_retries bounds RETRY; then the task counts as skipped."""

    class Stubborn(Watching):
        async def on_error(self, task, error):
            return "retry"

    handler = Stubborn()
    executor = ScriptedExecutor({"t0": 1})
    outcome = run_flow(handler, [1], executor=executor, config=DrakkarConfig(executor={"max_retries": max_retries}))
    assert len(executor.started) == max_retries + 1
    assert group_of(handler).failed == 1
    assert outcome.committed == {LANE: 1}
    assert ends(outcome) == (0, 1, 0)


class FanIn(Watching):
    """One task for all records of a window."""

    def tasks(self, messages):
        return [task("all", *[record.offset for record in messages])]


def test_d15_a_fan_in_task_that_fails_shows_in_every_group():
    """D-15: one task for three records fails with SKIP: each group has the error."""
    handler = FanIn()
    outcome = run_flow(handler, range(3), executor=ScriptedExecutor({"all": 1}))
    assert [len(group.errors) for group in handler.groups] == [1, 1, 1]
    assert len({id(group.errors[0]) for group in handler.groups}) == 1
    assert outcome.committed == {LANE: 3}
    assert ends(outcome) == (0, 3, 0)


def test_a_fan_in_payload_keeps_all_its_records_back():
    """One delivery for three records: none commits before it is written, all commit after."""
    sink = MemorySink()
    sink.gate.shut()
    with FlowRun(FanIn(), range(3), sinks=[sink]) as run:
        run.wait_until(lambda: sink.gate.waiting)
        assert run.reader.committed == {}
        sink.gate.open()
        outcome = run.finish()
    assert outcome.values == ["all"]
    assert outcome.committed == {LANE: 3}


def test_d16_a_record_with_a_task_of_its_own_waits_for_both():
    """D-16: fan-in of two messages and one task more for the second: the second waits for both."""

    class Mixed(Watching):
        def tasks(self, messages):
            return [task("both", 0, 1), task("own", 1)]

    handler = Mixed()
    executor = ScriptedExecutor()
    executor.gate("own").shut()
    with FlowRun(handler, range(2), executor=executor) as run:
        run.wait_until(lambda: handler.groups)
        run.wait_until(lambda: run.sink().values == ["both"])
        assert [group.source_message.offset for group in handler.groups] == [0]
        executor.gate("own").open()
        outcome = run.finish()
    assert group_of(handler, 1).succeeded == 2
    assert group_of(handler, 0).succeeded == 1
    assert outcome.committed == {LANE: 2}


class Replacing(Watching):
    """Failed tasks named t... give way to two others."""

    parent: str | None = None

    async def on_error(self, task, error):
        if not task.task_id.startswith("t"):
            return ErrorAction.SKIP
        self.made = [
            ExecutorTask(task_id=f"r{i}", source_offsets=task.source_offsets, parent_task_id=self.parent)
            for i in range(2)
        ]
        return self.made


def test_d17_replacements_take_a_tasks_place():
    """D-17: two replacements, both fine: window of 3 tasks and 2 results, replaced 1, parents set."""
    handler = Replacing()
    outcome = run_flow(handler, [1], executor=ScriptedExecutor({"t0": 1}))
    group = group_of(handler)
    assert (group.total, group.succeeded, group.failed, group.replaced) == (3, 2, 0, 1)
    assert handler.window_ends == [(2, [0])]
    assert [event.tasks for event in outcome.of(WindowFinished)] == [3]
    assert {made.parent_task_id for made in handler.made} == {"t0"}
    assert sorted(outcome.values) == ["r0", "r1"]
    assert outcome.committed == {LANE: 1}
    assert ends(outcome) == (1, 0, 0)


def test_a_record_waits_for_replacements_that_take_their_time():
    """The replaced task's end finishes nothing: its record waits for those that took its place."""
    handler = Replacing()
    executor = ScriptedExecutor({"t0": 1})
    executor.gate("r1").shut()
    with FlowRun(handler, [1], executor=executor, config=config(1), open_end=True) as run:
        run.wait_until(lambda: run.sink().values == ["r0"])
        assert (handler.groups, handler.window_ends, run.reader.committed) == ([], [], {})
        run.reader.put([2])
        run.wait_until(lambda: len(handler.windows) == 2)
        executor.gate("r1").open()
        run.wait_until(lambda: run.reader.committed == {LANE: 2})
    assert handler.pending[1] == {"r1"}


def test_d18_an_explicit_parent_stays_and_a_skipped_replacement_counts():
    """D-18: parent_task_id 'x' stays 'x'; a skipped replacement leaves one result of three tasks."""
    handler = Replacing()
    handler.parent = "x"
    outcome = run_flow(handler, [1], executor=ScriptedExecutor({"t0": 1, "r1": 1}))
    group = group_of(handler)
    assert {made.parent_task_id for made in handler.made} == {"x"}
    assert (group.total, group.succeeded, group.failed, group.replaced) == (3, 1, 1, 1)
    assert handler.window_ends == [(1, [0])]
    assert outcome.committed == {LANE: 1}


def test_no_replacements_finish_the_task():
    """An empty list takes the task away; its record is finished."""

    class Dropping(Watching):
        async def on_error(self, task, error):
            return []

    handler = Dropping()
    outcome = run_flow(handler, [1], executor=ScriptedExecutor({"t0": 1}))
    assert group_of(handler).replaced == 1
    assert outcome.committed == {LANE: 1}
    assert handler.window_ends == [(0, [0])]


def test_d19_retry_chains_leave_nothing_in_flight():
    """D-19: failing, retrying and replaced tasks of many records: nothing is open at the end, windows end once."""

    class Chain(Watching):
        async def on_error(self, failed, error):
            offset = failed.source_offsets[0]
            if failed.task_id.startswith("t") and offset % 3 == 0:
                return [task(f"r{offset}", offset)]
            return ErrorAction.RETRY if offset % 3 == 1 else ErrorAction.SKIP

    handler = Chain()
    executor = ScriptedExecutor({f"t{i}": [1, 1, "ok"] for i in range(60)})
    with FlowRun(handler, range(60), executor=executor, config=config(7)) as run:
        counts = []
        run.wait_until(lambda: counts.append(run.flight.records) or run.reader.committed == {LANE: 60})
        outcome = run.finish()
        assert min(counts) >= 0
        assert run.flight.statistics()[:3] == (0, 0, {})
        assert executor.statistics().running == 0
    assert len(handler.window_ends) == len(handler.windows)
    assert len(outcome.of(WindowFinished)) == len(handler.windows)
    assert len(handler.groups) == 60


def test_d20_a_mixed_window_commits_past_all():
    """D-20: ok, fail (SKIP), ok: the window completes with the two results and commits past all three."""
    handler = Watching()
    outcome = run_flow(handler, range(3), executor=ScriptedExecutor({"t1": 1}))
    assert outcome.values == ["t0", "t2"]
    assert handler.window_ends == [(2, [0, 1, 2])]
    assert outcome.committed == {LANE: 3}
    assert ends(outcome) == (2, 1, 0)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (RuntimeError("no idea"), "on_error: no idea"),
        (None, "on_error: "),
        ("perhaps", "on_error: 'perhaps' is not a valid ErrorAction"),
        (["t1"], "on_error returned a list with something else than tasks"),
        ([task("r", 1), 5], "on_error returned a list with something else than tasks"),
        ([ExecutorTask(task_id="r", source_offsets=3)], "on_error returned a list with something else than tasks"),
    ],
    ids=["raises", "none", "unknown", "strings", "mixed", "bad-offsets"],
)
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_d21_what_on_error_cannot_answer_is_a_skip(answer, problem, is_async):
    """D-21: on_error raises or returns nonsense: the task is skipped, it is told, the flow goes on."""

    def decide(task, error):
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def decide_later(task, error):
        return decide(task, error)

    flow = (
        StreamFlow("d21")
        .arrange(lambda records, _: [task(f"t{record.offset}", record.offset) for record in records])
        .execute(on_error=decide_later if is_async else decide)
        .collect(lambda result: KafkaPayload(data=result.task.task_id))
        .route()
    )
    outcome = run_flow(flow, range(2), executor=ScriptedExecutor({"t0": 1}))
    assert outcome.values == ["t1"]
    assert outcome.committed == {LANE: 2}
    assert ends(outcome) == (1, 1, 0)
    (ran,) = [event for event in outcome.of(HookRan) if event.hook == "on_error"]
    assert ran.error.startswith(problem)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (ValueError("can't"), "can't"),
        (None, "arrange must return a list of ExecutorTask with the offsets they work for, not NoneType"),
        ("ab", "not str"),
        ([1, "x"], "not a list of int, str"),
        ([ExecutorTask(task_id="t", source_offsets=7)], "not one whose source_offsets are 7"),
        ([task("a", 0), ExecutorTask(task_id="t", source_offsets=[None])], "not one whose source_offsets are [None]"),
    ],
    ids=["raises", "none", "text", "mixed", "offset-no-list", "offset-no-number"],
)
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_d22_what_arrange_cannot_answer_fails_its_window_and_the_partition_goes_on(answer, error, is_async):
    """D-22: arrange raises or returns nonsense: the window's records are dead letters, the next window is arranged."""

    def arrange(records, pending):
        if records[0].offset > 1:
            return []
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def arrange_later(records, pending):
        await asyncio.sleep(0)
        return arrange(records, pending)

    flow = StreamFlow("d22").arrange(arrange_later if is_async else arrange, name="a").execute().collect().route()
    outcome = run_flow(flow, range(4), config=config(2))
    (letter,) = outcome.dead_letters
    assert (letter.kind, letter.stage) == (FailureKind.ARRANGE, "arrange-a")
    assert error in letter.error
    assert [record.offset for record, _ in letter.holds] == [0, 1]
    assert outcome.committed == {LANE: 4}
    assert ends(outcome) == (2, 0, 2)


def test_d27_precomputed_tasks_need_no_executor_and_follow_the_same_rules():
    """D-27: exit 0 completes without a process, exit 2 asks on_error; nothing was run."""
    asked = []

    class Given(Watching):
        def tasks(self, messages):
            return [
                task(f"t{r.offset}", r.offset, precomputed=PrecomputedResult(stdout="s", exit_code=r.offset * 2))
                for r in messages
            ]

        async def on_task_complete(self, result):
            return KafkaPayload(data=(result.task.task_id, result.stdout, result.pid))

        async def on_error(self, task, error):
            asked.append((task.task_id, error.exit_code, error.stdout))
            return ErrorAction.SKIP

    handler = Given()
    executor = ScriptedExecutor()
    outcome = run_flow(handler, range(2), executor=executor)
    assert outcome.values == [("t0", "s", None)]
    assert asked == [("t1", 2, "s")]
    assert executor.started == []
    assert [event.count for event in outcome.of(TasksPrecomputed)] == [2]
    assert (group_of(handler, 0).succeeded, group_of(handler, 1).failed) == (1, 1)
    assert outcome.committed == {LANE: 2}


# --- attribution ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offsets", "works_for"),
    [((), {0, 1, 2}), ((99,), {0, 1, 2}), ((1, 99), {1}), ((1, 1, 1), {1}), ((0, 2), {0, 2})],
    ids=["none", "unknown", "one-unknown", "repeated", "two"],
)
def test_a_task_works_for_the_offsets_it_names_or_else_for_the_whole_window(offsets, works_for):
    """Unknown offsets are ignored, repeated ones count once, and a task without any holds back all."""

    class Odd(Watching):
        def tasks(self, messages):
            return [task("odd", *offsets)]

    handler = Odd()
    sink = MemorySink()
    sink.gate.shut()
    with FlowRun(handler, range(3), sinks=[sink]) as run:
        run.wait_until(lambda: sink.gate.waiting)
        sink.gate.open()
        outcome = run.finish()
    assert {group.source_message.offset for group in handler.groups if not group.is_empty} == works_for
    assert all(len(group.tasks) == 1 for group in handler.groups if not group.is_empty)
    assert outcome.values == ["odd"]
    assert outcome.committed == {LANE: 3}
    assert ends(outcome) == (3, 0, 0)


# --- failed tasks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["dlq", "skip", "fail"])
def test_the_dlq_action_makes_a_dead_letter_whatever_the_error_route_says(policy):
    """DLQ asked for by on_error is a dead letter with the task; its records end dead."""
    flow = (
        StreamFlow("dead")
        .arrange(lambda records, _: [task("both", 0, 1), task("fine", 1)])
        .execute(on_error=lambda task, error: ErrorAction.DLQ)
        .collect(name="c")
        .route(on_error=policy)
    )
    outcome = run_flow(flow, range(2), executor=ScriptedExecutor({"both": 7}))
    (letter,) = outcome.dead_letters
    assert (letter.kind, letter.stage) == (FailureKind.TASK, "collect-c")
    assert letter.error == "task both failed (nonzero_exit): exit code 7"
    assert letter.task is not None
    assert letter.task.task.task_id == "both"
    assert [record.offset for record, _ in letter.holds] == [0, 1]
    assert outcome.committed == {LANE: 2}
    assert outcome.failure is None
    assert ends(outcome) == (0, 0, 2)


@pytest.mark.parametrize(("setting", "letters"), [("skip", 0), ("dlq", 1)])
def test_without_on_error_the_configuration_decides_about_failed_tasks(setting, letters):
    """runtime.on_task_error is the answer where there is no hook."""
    flow = StreamFlow("plain").arrange(lambda records, _: [task("t", 0)]).execute().collect().route()
    outcome = run_flow(flow, [1], executor=ScriptedExecutor({"t": 1}), config=config(on_task_error=setting))
    assert len(outcome.dead_letters) == letters
    assert outcome.committed == {LANE: 1}


def test_a_handler_without_on_error_skips_failed_tasks():
    """The default of a handler is SKIP, whatever the configuration says."""
    outcome = run_flow(PerRecord(), [1], executor=ScriptedExecutor({"t0": 1}), config=config(on_task_error="dlq"))
    assert (outcome.dead_letters, outcome.committed) == ([], {LANE: 1})


def test_the_worst_ending_of_a_records_tasks_counts():
    """Whatever comes last: a record with a dead and a skipped task ends dead."""

    class Endings(FanOut):
        async def on_error(self, task, error):
            return ErrorAction.DLQ if task.task_id == "a0" else ErrorAction.SKIP

    executor = ScriptedExecutor({"a0": 1, "b0": 1})
    executor.gate("b0").shut()
    with FlowRun(Endings(), [1], executor=executor) as run:
        run.wait_until(lambda: run.dead_letters.letters)
        executor.gate("b0").open()
        outcome = run.finish()
    assert ends(outcome) == (0, 0, 1)


def test_an_executor_that_breaks_its_word_makes_a_failed_task():
    """An exception of the executor is an error of kind 'internal', decided by on_error like any other."""

    def broken(task):
        raise RuntimeError("bug")

    seen = []

    class Asking(PerRecord):
        async def on_error(self, task, error):
            seen.append((error.kind, error.exception))
            return ErrorAction.DLQ

    outcome = run_flow(Asking(), [1], executor=ScriptedExecutor(broken))
    assert seen == [("internal", "RuntimeError: bug")]
    assert len(outcome.dead_letters) == 1
    assert outcome.committed == {LANE: 1}


def test_a_closing_executor_keeps_the_offset():
    """ExecutorClosed is nobody's failure: the record is neither a dead letter nor committed."""

    def closed(task):
        raise ExecutorClosed("closing")

    handler = Watching()
    outcome = run_flow(handler, [1], executor=ScriptedExecutor(closed))
    assert (outcome.values, outcome.dead_letters, outcome.committed, handler.groups) == ([], [], {}, [])


# --- hooks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["on_task_complete", "on_message_complete", "on_window_complete"])
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (RuntimeError("broke"), "broke"),
        (42, "int where a CollectResult, a payload, a list of payloads or None belongs"),
        ([KafkaPayload(data=1), "x"], "str where"),
    ],
    ids=["raises", "number", "mixed-list"],
)
def test_a_hook_that_raises_or_returns_nonsense_is_a_dead_letter_of_its_records(hook, answer, error):
    """Nothing of what it returned is delivered, and the offsets move on."""

    async def answering(self, *args):
        if isinstance(answer, Exception):
            raise answer
        return answer

    handler = type("Odd", (PerRecord,), {hook: answering})()
    outcome = run_flow(handler, range(2))
    assert {(letter.kind, letter.stage) for letter in outcome.dead_letters} == {
        (
            FailureKind.HOOK,
            f"collect-on_task_complete.{hook}" if hook != "on_task_complete" else f"collect-answering.{hook}",
        )
    }
    assert all(error in letter.error for letter in outcome.dead_letters)
    assert sorted(r.offset for letter in outcome.dead_letters for r, _ in letter.holds) == [0, 1]
    assert outcome.values == ([] if hook == "on_task_complete" else ["t0", "t1"])
    assert outcome.committed == {LANE: 2}
    assert ends(outcome) == (0, 0, 2)


@pytest.mark.parametrize(
    ("answer", "values"),
    [
        (None, []),
        (CollectResult(), []),
        ([], []),
        (KafkaPayload(data=1), [1]),
        ((KafkaPayload(data=1), [CollectResult(kafka=[KafkaPayload(data=2), KafkaPayload(data=3)])]), [1, 2, 3]),
    ],
    ids=["none", "empty-result", "empty-list", "payload", "nested"],
)
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_hooks_return_payloads_in_any_wrapping(answer, values, is_async):
    """A CollectResult, a payload, several, or nothing; from plain and async functions."""

    async def later(result):
        await asyncio.sleep(0)
        return answer

    collect = later if is_async else lambda result: answer
    flow = StreamFlow("any").arrange(lambda records, _: [task("t", 0)]).execute().collect(collect).route()
    outcome = run_flow(flow, [1])
    assert outcome.values == values
    assert outcome.committed == {LANE: 1}


def test_collect_without_hooks_finishes_records_when_their_tasks_have_ended():
    """No hook at all: the tasks run, nothing is delivered, the offsets move on."""
    flow = StreamFlow("run").arrange(lambda records, _: [task("t", 0)]).execute().collect().route()
    executor = ScriptedExecutor()
    executor.gate().shut()
    with FlowRun(flow, [1], executor=executor) as run:
        run.wait_until(lambda: executor.started)
        assert run.reader.committed == {}
        executor.gate().open()
        assert run.finish().committed == {LANE: 1}


def test_the_group_tells_when_its_record_began_and_ended():
    """started_at and finished_at bracket the tasks."""
    handler = Watching()
    run_flow(handler, [1])
    group = group_of(handler)
    assert 0 < group.started_at <= group.finished_at
    assert isinstance(group.source_message, Record)
    assert group.source_message.payload == 1
    assert [result.task.task_id for result in group.results] == ["t0"]


def test_one_payload_a_hook_made_waits_while_another_goes():
    """Two payloads of one record for two sinks: the offset waits for the slower sink."""

    class Twice(PerRecord):
        async def on_task_complete(self, result):
            return [KafkaPayload(data="a", sink="a"), KafkaPayload(data="b", sink="b")]

    slow, fast = MemorySink("a"), MemorySink("b")
    slow.gate.shut()
    with FlowRun(Twice(), [1], sinks=[slow, fast]) as run:
        run.wait_until(lambda: fast.values == ["b"])
        assert run.reader.committed == {}
        slow.gate.open()
        assert run.finish().committed == {LANE: 1}
