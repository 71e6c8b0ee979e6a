"""MessageGroup: how a record's tasks are counted."""

from __future__ import annotations

from typing import Any

import pytest

from drakkar_flow import ExecutorError, ExecutorResult, ExecutorTask, MessageGroup, SourceMessage


def group(tasks: int, succeeded: int = 0, failed: int = 0, **fields: Any) -> MessageGroup:
    """A group of so many tasks."""
    task = ExecutorTask(task_id="t", source_offsets=[1])
    return MessageGroup(
        source_message=SourceMessage(topic="in", partition=0, offset=1, value=b"", timestamp=0),
        tasks=[task] * tasks,
        results=[ExecutorResult(task=task)] * succeeded,
        errors=[ExecutorError(task=task)] * failed,
        **fields,
    )


COUNTS = ["succeeded", "failed", "total", "replaced", "all_succeeded", "any_failed", "is_empty"]


@pytest.mark.parametrize(
    ("tasks", "succeeded", "failed", "expected"),
    [
        pytest.param(0, 0, 0, (0, 0, 0, 0, False, False, True), id="no task"),
        pytest.param(1, 1, 0, (1, 0, 1, 0, True, False, False), id="one success"),
        pytest.param(1, 0, 1, (0, 1, 1, 0, False, True, False), id="one failure"),
        pytest.param(3, 2, 1, (2, 1, 3, 0, False, True, False), id="one of three failed"),
        pytest.param(3, 2, 0, (2, 0, 3, 1, True, False, False), id="one replaced by two"),
        pytest.param(2, 0, 1, (0, 1, 2, 1, False, True, False), id="replaced by one that failed"),
        pytest.param(1, 0, 0, (0, 0, 1, 1, False, False, False), id="replaced by none"),
        pytest.param(1, 1, 1, (1, 1, 1, 0, False, True, False), id="its hook failed after it succeeded"),
    ],
)
def test_a_group_counts_its_tasks(tasks: int, succeeded: int, failed: int, expected: tuple[Any, ...]) -> None:
    """Each task is a success, a failure, or was replaced; never fewer than none were."""
    found = group(tasks, succeeded, failed)
    assert tuple(getattr(found, name) for name in COUNTS) == expected


def test_a_group_lasts_from_its_window_to_its_last_task_and_never_less_than_nothing() -> None:
    """In seconds of a clock that is never set; an unfinished group has lasted 0."""
    assert group(1, started_at=5.0, finished_at=7.5).duration_seconds == 2.5
    assert group(1, started_at=5.0, finished_at=4.0).duration_seconds == 0.0
    assert group(1).duration_seconds == 0.0


def test_no_two_groups_share_a_list() -> None:
    """What is added to one stays there."""
    one, other = group(0), MessageGroup(source_message=group(0).source_message)
    other.results.append(ExecutorResult(task=ExecutorTask(task_id="t", source_offsets=[])))
    assert one.results == []
    assert MessageGroup(source_message=one.source_message).results == []
