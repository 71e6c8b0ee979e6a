"""Tasks and what is pending: mistakes are told where they are made."""

from __future__ import annotations

from typing import Any

import pytest

from drakkar_flow import ExecutorTask, PendingContext


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source_offsets": [1]}, "Missing required argument 'task_id'"),
        ({"task_id": "t"}, "Missing required argument 'source_offsets'"),
        ({"task_id": "t", "source_offsets": [1], "argv": []}, "Unexpected keyword argument 'argv'"),
        ({"task_id": 5, "source_offsets": [1]}, "task_id must be text, not int: 5"),
        ({"task_id": "t", "source_offsets": 1}, "task t: source_offsets must be a list, not int: 1"),
        ({"task_id": "t", "source_offsets": [1], "args": "-c x"}, "task t: args must be a list, not str: '-c x'"),
        ({"task_id": "t", "source_offsets": [1], "stdin": {}}, "task t: stdin must be text or bytes, not dict"),
        (
            {"task_id": "t", "source_offsets": [1], "precomputed": {"stdout": "x"}},
            "task t: precomputed must be a PrecomputedResult, not dict",
        ),
    ],
)
def test_a_wrong_task_says_what_is_wrong(fields: dict[str, Any], message: str) -> None:
    """Before it gets anywhere."""
    with pytest.raises(TypeError, match=message):
        ExecutorTask(**fields)


def test_a_task_is_made_by_keywords_alone() -> None:
    """The order of its fields is nobody's business."""
    with pytest.raises(TypeError, match="Extra positional arguments"):
        ExecutorTask("t", [1])  # type: ignore[call-arg]  # wrong on purpose


def test_other_collections_become_lists() -> None:
    """Tuples, sets and ranges are as good."""
    task = ExecutorTask(task_id="t", source_offsets=range(2), args=("a", "b"))
    assert (task.source_offsets, task.args) == ([0, 1], ["a", "b"])
    assert ExecutorTask(task_id="t", source_offsets={3}).source_offsets == [3]


def test_no_two_tasks_share_a_default() -> None:
    """What a hook puts into one stays there."""
    one, other = (ExecutorTask(task_id="t", source_offsets=[]) for _ in range(2))
    one.labels["a"] = "b"
    one.metadata["a"] = one.env["a"] = "b"
    one.args.append("a")
    assert (other.labels, other.metadata, other.env, other.args) == ({}, {}, {}, [])


def test_what_is_pending_is_known_by_id() -> None:
    """The ids are the tasks' unless a test gives others."""
    tasks = [ExecutorTask(task_id=name, source_offsets=[]) for name in ("a", "b")]
    assert PendingContext(pending_tasks=tasks).pending_task_ids == {"a", "b"}
    assert PendingContext().pending_task_ids == set()
    assert PendingContext().pending_tasks == []
    assert PendingContext(pending_tasks=tasks, pending_task_ids={"c"}).pending_task_ids == {"c"}
