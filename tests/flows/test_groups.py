"""Tasks and their records: fan-out, fan-in, retries, replacements, attribution."""

from __future__ import annotations

from typing import Any

import pytest

from drakkar_flow import (
    DrakkarConfig,
    ErrorAction,
    ExecutorError,
    ExecutorTask,
    PendingContext,
    Record,
    make_stable_task_id,
)
from drakkar_flow.model.task import ExecutorResult
from drakkar_flow.observe.events.tasks import DuplicateTasks, TaskRetried, WindowFinished
from drakkar_flow.testing import FlowRun, MemorySink, ScriptedExecutor, failed, run_flow
from support.handlers import LANE, Watching, config, ends, group_of, task


class FanOut(Watching):
    """Three tasks for each record."""

    def tasks(self, messages: list[Record]) -> list[ExecutorTask]:
        return [task(f"{name}{record.offset}", record.offset) for record in messages for name in "abc"]


def test_fan_out_commits_after_the_last_task() -> None:
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


def test_d13_one_of_three_tasks_fails_and_is_skipped() -> None:
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


def test_d14_a_retried_task_that_succeeds_completes_once() -> None:
    """D-14: two failures, then success: the hook fires once, one success, no failure."""

    class Retrying(Watching):
        async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction:
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
def test_retries_end_at_their_limit_and_the_task_is_skipped(max_retries: int) -> None:
    """executor.max_retries bounds RETRY; then the task counts as skipped."""

    class Stubborn(Watching):
        async def on_error(self, task: ExecutorTask, error: ExecutorError) -> Any:
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

    def tasks(self, messages: list[Record]) -> list[ExecutorTask]:
        return [task("all", *[record.offset for record in messages])]


def test_d15_a_fan_in_task_that_fails_shows_in_every_group() -> None:
    """D-15: one task for three records fails with SKIP: each group has the error."""
    handler = FanIn()
    outcome = run_flow(handler, range(3), executor=ScriptedExecutor({"all": 1}))
    assert [len(group.errors) for group in handler.groups] == [1, 1, 1]
    assert len({id(group.errors[0]) for group in handler.groups}) == 1
    assert outcome.committed == {LANE: 3}
    assert ends(outcome) == (0, 3, 0)


def test_a_fan_in_payload_keeps_all_its_records_back() -> None:
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


def test_d16_a_record_with_a_task_of_its_own_waits_for_both() -> None:
    """D-16: fan-in of two messages and one task more for the second: the second waits for both."""

    class Mixed(Watching):
        def tasks(self, messages: list[Record]) -> list[ExecutorTask]:
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

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
        if not task.task_id.startswith("t"):
            return ErrorAction.SKIP
        self.made = [
            ExecutorTask(task_id=f"r{i}", source_offsets=task.source_offsets, parent_task_id=self.parent)
            for i in range(2)
        ]
        return self.made


def test_d17_replacements_take_a_tasks_place() -> None:
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


def test_a_record_waits_for_replacements_that_take_their_time() -> None:
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


def test_d18_an_explicit_parent_stays_and_a_skipped_replacement_counts() -> None:
    """D-18: parent_task_id 'x' stays 'x'; a replaced task leaves no result, a skipped replacement one."""
    handler = Replacing()
    handler.parent = "x"
    outcome = run_flow(handler, [1], executor=ScriptedExecutor({"t0": 1, "r1": 1}))
    group = group_of(handler)
    assert {made.parent_task_id for made in handler.made} == {"x"}
    assert (group.total, group.succeeded, group.failed, group.replaced) == (3, 1, 1, 1)
    assert handler.window_ends == [(2, [0])]
    assert outcome.committed == {LANE: 1}


def test_no_replacements_finish_the_task() -> None:
    """An empty list takes the task away; its record is finished."""

    class Dropping(Watching):
        async def on_error(self, task: ExecutorTask, error: ExecutorError) -> list[Any]:
            return []

    handler = Dropping()
    outcome = run_flow(handler, [1], executor=ScriptedExecutor({"t0": 1}))
    assert group_of(handler).replaced == 1
    assert outcome.committed == {LANE: 1}
    assert handler.window_ends == [(0, [0])]


def test_d19_retry_chains_leave_nothing_in_flight() -> None:
    """D-19: failing, retrying and replaced tasks of many records: nothing is open at the end, windows end once."""

    class Chain(Watching):
        async def on_error(self, failed: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
            offset = failed.source_offsets[0]
            if failed.task_id.startswith("t") and offset % 3 == 0:
                return [task(f"r{offset}", offset)]
            return ErrorAction.RETRY if offset % 3 == 1 else ErrorAction.SKIP

    handler = Chain()
    executor = ScriptedExecutor({f"t{i}": [1, 1, "ok"] for i in range(60)})
    with FlowRun(handler, range(60), executor=executor, config=config(7)) as run:
        counts = []
        run.wait_until(lambda: counts.append(run.in_flight.records) or run.reader.committed == {LANE: 60})  # type: ignore[func-returns-value]  # append returns nothing, so the right side is returned
        outcome = run.finish()
        assert min(counts) >= 0
        assert run.in_flight.statistics()[:3] == (0, 0, {})
        assert executor.statistics().running == 0
    assert len(handler.window_ends) == len(handler.windows)
    assert len(outcome.of(WindowFinished)) == len(handler.windows)
    assert len(handler.groups) == 60


def test_d20_a_mixed_window_commits_past_all() -> None:
    """D-20: ok, fail (SKIP), ok: the window completes with three results and commits past all three."""
    handler = Watching()
    outcome = run_flow(handler, range(3), executor=ScriptedExecutor({"t1": 1}))
    assert outcome.values == ["t0", "t2"]
    assert handler.window_ends == [(3, [0, 1, 2])]
    assert outcome.committed == {LANE: 3}
    assert ends(outcome) == (2, 1, 0)


def test_a_windows_results_tell_of_failed_tasks_what_they_left() -> None:
    """Exit code and output; -1 where the program did not come to its own end."""

    class Summing(Watching):
        async def on_window_complete(self, results: list[ExecutorResult], source_messages: list[Record]) -> None:
            self.window_ends += [(result.task.task_id, result.exit_code, result.stderr) for result in results]  # type: ignore[misc]  # this one notes more

    handler = Summing()
    executor = ScriptedExecutor(
        lambda task: failed(task, 3, "no") if task.task_id == "t0" else ExecutorError(task=task, kind="timeout")
    )
    run_flow(handler, range(2), executor=executor)
    noted: list[Any] = handler.window_ends
    assert sorted(noted) == [("t0", 3, "no"), ("t1", -1, "")]


@pytest.mark.parametrize(
    ("offsets", "works_for"),
    [((), {0, 1, 2}), ((99,), {0, 1, 2}), ((1, 99), {1}), ((1, 1, 1), {1}), ((0, 2), {0, 2})],
    ids=["none", "unknown", "one-unknown", "repeated", "two"],
)
def test_a_task_works_for_the_offsets_it_names_or_else_for_the_whole_window(
    offsets: tuple[int, ...], works_for: set[int]
) -> None:
    """Unknown offsets are ignored, repeated ones count once, and a task without any holds back all."""

    class Odd(Watching):
        def tasks(self, messages: list[Record]) -> list[ExecutorTask]:
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


def test_the_group_tells_when_its_record_began_and_ended() -> None:
    """started_at and finished_at bracket the tasks."""
    handler = Watching()
    run_flow(handler, [1])
    group = group_of(handler)
    assert 0 < group.started_at <= group.finished_at
    assert isinstance(group.source_message, Record)
    assert group.source_message.payload == 1
    assert [result.task.task_id for result in group.results] == ["t0"]


def test_the_worst_ending_of_a_records_tasks_counts() -> None:
    """Whatever comes last: a record with a dead and a skipped task ends dead."""

    class Endings(FanOut):
        async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction:
            return ErrorAction.DLQ if task.task_id == "a0" else ErrorAction.SKIP

    executor = ScriptedExecutor({"a0": 1, "b0": 1})
    executor.gate("b0").shut()
    with FlowRun(Endings(), [1], executor=executor) as run:
        run.wait_until(lambda: run.dead_letters.letters)
        executor.gate("b0").open()
        outcome = run.finish()
    assert ends(outcome) == (0, 0, 1)


def test_a_task_whose_id_is_pending_runs_beside_its_twin_and_is_told() -> None:
    """Ids are the user's: `pending` says what is under way, the library warns and keeps both."""

    class Twins(Watching):
        def tasks(self, messages: list[Record]) -> list[ExecutorTask]:
            return [task("same", record.offset) for record in messages]

    handler = Twins()
    executor = ScriptedExecutor()
    executor.gate("same").shut()
    with FlowRun(handler, range(3), executor=executor, config=config(2)) as run:
        run.wait_until(lambda: len(executor.started) == 3)
        executor.gate("same").open()
        outcome = run.finish()
    assert [(event.topic_partition, event.count, event.task_id) for event in outcome.of(DuplicateTasks)] == [
        (LANE, 1, "same"),
        (LANE, 1, "same"),
    ]
    assert outcome.values == ["same"] * 3
    assert outcome.committed == {LANE: 3}


def test_a_replacement_may_keep_the_id_of_its_task() -> None:
    """The task it replaces is not pending any more."""

    class Again(Watching):
        async def on_error(self, failed: ExecutorTask, error: ExecutorError) -> list[ExecutorTask]:
            return [task(failed.task_id, 0)]

    outcome = run_flow(Again(), [1], executor=ScriptedExecutor({"t0": [1, "fine"]}))
    assert outcome.of(DuplicateTasks) == []
    assert outcome.values == ["t0"]


def test_stable_ids_tell_what_is_under_way_already() -> None:
    """make_stable_task_id and pending keep the same work from being done twice at once."""

    class Once(Watching):
        async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
            ids = {make_stable_task_id("t", record.payload): record.offset for record in messages}
            return [task(name, offset) for name, offset in ids.items() if name not in pending.pending_task_ids]

    executor = ScriptedExecutor()
    executor.gate().shut()
    with FlowRun(Once(), [5, 6, 5, 5], executor=executor, config=config(2)) as run:
        run.wait_until(lambda: len(executor.started) == 2 and run.in_flight.finished == 2)
        executor.gate().open()
        outcome = run.finish()
    assert len(executor.started) == len(set(executor.started)) == 2
    assert outcome.of(DuplicateTasks) == []
    assert outcome.committed == {LANE: 4}
