"""Windows and groups: the accounting of tasks by record."""

from __future__ import annotations

from itertools import permutations
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.model.record import FULL_CREDIT, Record
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask
from drakkar_flow.runtime.steps.windows import TaskEnd, TaskRun, WindowRun, are_tasks


def window(*offsets: int, keep_messages: bool = False) -> WindowRun:
    """A window of records."""
    return WindowRun([Record("in", 3, offset) for offset in offsets], 1.0, keep_messages=keep_messages)


def task(*offsets: int, name: str = "t") -> ExecutorTask:
    """A task."""
    return ExecutorTask(task_id=name, source_offsets=list(offsets))


def changed(offset: Any) -> ExecutorTask:
    """A task whose offsets a hook changed after it was made."""
    made = task()
    made.source_offsets.append(offset)
    return made


def end(run: TaskRun, ending: TaskEnd) -> TaskRun:
    """End a run as its executor would."""
    if ending is TaskEnd.SUCCEEDED:
        return run.end(ending, result=ExecutorResult(task=run.task))
    return run.end(ending, error=None if ending is TaskEnd.FENCED else ExecutorError(task=run.task))


@pytest.mark.parametrize(
    "order", list(permutations([TaskEnd.SUCCEEDED, TaskEnd.SKIPPED, TaskEnd.DEAD, TaskEnd.FENCED]))
)
def test_a_record_ends_as_the_worst_of_its_tasks_in_any_order(order: tuple[TaskEnd, TaskEnd, TaskEnd, TaskEnd]) -> None:
    """Fenced is worse than dead, dead than skipped, skipped than succeeded."""
    for count in range(1, 5):
        one = window(0)
        runs = [one.attribute(task(0)) for _ in range(count)]
        for run, ending in zip(runs, order, strict=False):
            one.settle(end(run, ending))
        ranks = [TaskEnd.SUCCEEDED, TaskEnd.SKIPPED, TaskEnd.DEAD, TaskEnd.FENCED]
        assert one.in_progress[0].worst is max(order[:count], key=ranks.index)


def test_a_replaced_task_counts_by_its_replacements() -> None:
    """Its own failure is neither an ending nor an error of its record."""
    one = window(0, keep_messages=True)
    run = one.attribute(task(0))
    (other,) = one.replace(run, [task(0, name="r")])
    assert one.settle(end(run, TaskEnd.REPLACED)) == []
    assert not bool(one.finished)
    assert one.settle(end(other, TaskEnd.SUCCEEDED)) == one.in_progress
    assert one.finished
    assert one.in_progress[0].worst is TaskEnd.SUCCEEDED
    assert one.in_progress[0].message is not None
    assert one.in_progress[0].message.errors == []


def test_the_window_knows_its_lane_records_and_results() -> None:
    """What on_window_complete is given."""
    one = window(4, 7)
    run = one.attribute(task(4))
    one.settle(end(run, TaskEnd.SUCCEEDED))
    assert (one.topic_partition, [record.offset for record in one.records]) == (("in", 3), [4, 7])
    assert one.results == [run.result]
    assert [group.record.offset for group in one.empty_groups()] == [7]
    assert run.first_record.offset == 4


def test_a_hold_takes_from_the_records_credit_and_the_rest_is_left() -> None:
    """Shares and rest add up."""
    (group,) = window(0).in_progress
    shares = [group.hold()[1] for _ in range(5)]
    assert sum(shares) + group.credit_pool.drain() == FULL_CREDIT


@pytest.mark.parametrize(("closed", "ending"), [(False, TaskEnd.SUCCEEDED), (True, TaskEnd.SKIPPED)])
def test_a_last_hold_leaves_the_rest_where_something_is_to_come(closed: bool, ending: TaskEnd) -> None:
    """Another hook may want a share; and a status worse than the payload's returns with the rest."""
    (group,) = window(0).in_progress
    group.closed, group.worst = closed, ending
    share = group.last_token()[1]
    assert 0 < share < FULL_CREDIT
    assert share + group.credit_pool.drain() == FULL_CREDIT


def test_a_last_hold_takes_all_that_is_left_of_a_record_that_is_done_with() -> None:
    """So that it comes back in one piece, if it had one payload only."""
    (group,) = window(0).in_progress
    share = group.hold()[1]
    group.closed = True
    assert group.last_token() == (group.record, FULL_CREDIT - share)
    assert group.credit_pool.left == 0


@pytest.mark.parametrize("copies", [2, 3])
def test_a_task_works_for_every_share_of_its_record(copies: int) -> None:
    """Records of one offset, as flat_map makes them, are in a window more than once."""
    one = window(*[4] * copies, 5)
    assert one.attribute(task(4)).in_progress == tuple(one.in_progress[:copies])
    assert one.attribute(task(5)).in_progress == (one.in_progress[copies],)


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 5), max_size=4),
            st.sampled_from([TaskEnd.SUCCEEDED, TaskEnd.SKIPPED, TaskEnd.DEAD]),
        ),
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
def test_each_record_finishes_exactly_once_with_the_last_of_its_tasks(
    tasks: list[tuple[list[int], TaskEnd]], rng: Random
) -> None:
    """Whatever the attribution and the order in which tasks end."""
    one = window(0, 1, 2, 3, keep_messages=True)
    runs = [(one.attribute(task(*offsets)), ending) for offsets, ending in tasks]
    left = {group: sum(group in run.in_progress for run, _ in runs) for group in one.in_progress}
    assert [group for group in one.in_progress if not left[group]] == one.empty_groups()
    rng.shuffle(runs)
    for index, (run, ending) in enumerate(runs):
        finished = one.settle(end(run, ending))
        for group in run.in_progress:
            left[group] -= 1
        assert set(finished) == {group for group in run.in_progress if left[group] == 0}
        assert len(set(finished)) == len(finished)
        assert one.finished is (index == len(runs) - 1)
    for group in one.in_progress:
        mine = [(run, ending) for run, ending in runs if group in run.in_progress]
        assert group.message is not None
        assert group.message.succeeded == sum(ending is TaskEnd.SUCCEEDED for _, ending in mine)
        assert group.message.failed == sum(ending is not TaskEnd.SUCCEEDED for _, ending in mine)
        assert group.message.replaced == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], True),
        ((task(1),), True),
        ([task(), task(1, 2)], True),
        (None, False),
        ({task(1).task_id: 1}, False),
        ([task(1), None], False),
        ([changed("1")], False),
    ],
)
def test_tasks_are_lists_of_tasks_with_lists_of_offsets(
    value: dict[str, int] | tuple[ExecutorTask] | list[ExecutorTask | None] | None, expected: bool
) -> None:
    """Everything else is a mistake of the hook that returned it."""
    assert are_tasks(value) is expected
