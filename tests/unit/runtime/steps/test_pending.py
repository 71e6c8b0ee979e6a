"""Pending tasks: by partition, forgotten when they end."""

from __future__ import annotations

from drakkar_flow.model.precomputed import PrecomputedResult
from drakkar_flow.model.task import ExecutorTask
from drakkar_flow.runtime.steps.pending import PendingTasks

A, B = ("in", 0), ("in", 1)


def task(name: str) -> ExecutorTask:
    """A task."""
    return ExecutorTask(task_id=name, source_offsets=[])


def test_each_partition_has_its_own_tasks_until_they_end() -> None:
    """The context is a picture of the moment; two tasks with one id are two tasks."""
    pending = PendingTasks()
    one, other, twin = task("a"), task("b"), task("a")
    pending.add(A, [one, twin])
    pending.add(B, [other])
    before = pending.context(A)
    pending.discard(A, one)
    assert before.pending_tasks == [one, twin]
    assert pending.context(A).pending_tasks == [twin]
    assert pending.context(B).pending_task_ids == {"b"}


def test_nothing_is_remembered_of_a_partition_whose_tasks_have_ended() -> None:
    """Partitions come and go; forgetting what is not known is harmless."""
    pending = PendingTasks()
    one = task("a")
    pending.add(A, [one])
    pending.discard(A, one)
    pending.discard(A, one)
    pending.discard(B, one)
    assert pending.context(A).pending_tasks == []
    assert (pending._tasks, pending._ids) == ({}, {})


def test_ids_that_are_pending_already_are_told() -> None:
    """Within one list as well, by partition, and only until the task has ended; precomputed tasks are never pending."""
    pending = PendingTasks()
    one = task("a")
    given = ExecutorTask(task_id="a", source_offsets=[], precomputed=PrecomputedResult())
    assert pending.add(A, [one, task("b"), given]) == []
    assert pending.add(B, [task("a")]) == []
    twin = task("a")
    assert pending.add(A, [twin, task("c"), task("c")]) == ["a", "c"]
    pending.discard(A, one)
    assert pending.add(A, [task("a")]) == ["a"]
    pending.discard(A, twin)
    assert pending.context(A).pending_task_ids == {"a", "b", "c"}
