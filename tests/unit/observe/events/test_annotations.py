"""Annotations: what they are of, and what is given up."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from drakkar_flow.model.group import MessageGroup
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask
from drakkar_flow.observe.events.annotations import MAX_ANNOTATION_BYTES, Annotated, AnnotationDropped, annotation

RECORD = Record("in", 3, 7)
TASK = ExecutorTask(task_id="t-1", source_offsets=[7])


@pytest.mark.parametrize(
    ("target", "named"),
    [
        (RECORD, ("record", "in:3:7")),
        (MessageGroup(source_message=RECORD), ("record", "in:3:7")),
        (TASK, ("task", "t-1")),
        (ExecutorResult(task=TASK), ("task", "t-1")),
        (ExecutorError(task=TASK), ("task", "t-1")),
        ("batch-9", ("other", "batch-9")),
    ],
    ids=["record", "group", "task", "result", "error", "text"],
)
def test_an_annotation_names_its_target(target: object, named: tuple[str, str]) -> None:
    """By what a reader of logs knows it by."""
    made = annotation(target, "score", {"value": 1}, {"model": 2})  # type: ignore[dict-item]  # a number, as handlers may give one
    assert made == Annotated(*named, "score", '{"value":1}', {"model": "2"})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("x" * (MAX_ANNOTATION_BYTES + 1), "too_large"),
        ("é" * (MAX_ANNOTATION_BYTES // 2 + 1), "too_large"),
        (object(), "not_json"),
        ({"deep": [object()]}, "not_json"),
    ],
    ids=["long", "long-in-bytes", "object", "inner-object"],
)
def test_what_can_not_be_kept_is_dropped_and_told(data: dict[str, list[object]] | object | str, reason: str) -> None:
    """Never an error: it is not worth a record."""
    assert annotation(RECORD, "note", data, None) == AnnotationDropped("note", reason)


class Score(BaseModel):
    """A model, as handlers have them."""

    value: float


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("plain", '"plain"'),
        (Score(value=0.5), '{"value":0.5}'),
        ([Score(value=1)], '[{"value":1.0}]'),
        (b"a", '"YQ=="'),
    ],
    ids=["text", "model", "models", "bytes"],
)
def test_data_is_json_whatever_it_was(data: bytes | list[Score] | str | Score, text: str) -> None:
    """Text is quoted, models anywhere in it are objects, bytes are base64."""
    made = annotation(RECORD, "note", data, None)
    assert isinstance(made, Annotated)
    assert made.data == text


def test_an_annotation_may_be_as_large_as_the_cap() -> None:
    """And may hold nothing."""
    made = annotation(RECORD, "note", "x" * (MAX_ANNOTATION_BYTES - 2), None)
    assert isinstance(made, Annotated)
    empty = annotation(RECORD, "note", None, None)
    assert isinstance(empty, Annotated)
    assert empty.data == "null"
