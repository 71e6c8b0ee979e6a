"""Pending tasks: by partition, forgotten when they end."""

from __future__ import annotations

from drakkar_flow.model.task import ExecutorTask
from drakkar_flow.runtime.pending import PendingTasks

A, B = ("in", 0), ("in", 1)


def task(name: str) -> ExecutorTask:
    """A task."""
    return ExecutorTask(task_id=name, source_offsets=[])


def test_each_partition_has_its_own_tasks_until_they_end():
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


def test_nothing_is_remembered_of_a_partition_whose_tasks_have_ended():
    """Partitions come and go; forgetting what is not known is harmless."""
    pending = PendingTasks()
    one = task("a")
    pending.add(A, [one])
    pending.discard(A, one)
    pending.discard(A, one)
    pending.discard(B, one)
    assert pending.context(A).pending_tasks == []
    assert pending._tasks == {}
