"""Events of annotations: data that a handler attaches to records and tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import BaseModel

from drakkar_flow.model.group import MessageGroup
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask
from drakkar_flow.observe.events.base import Event

__all__ = ["MAX_ANNOTATION_BYTES", "Annotated", "AnnotationDropped", "annotation"]

MAX_ANNOTATION_BYTES = 16 * 1024
"""Maximum size of an annotation's data as JSON."""


class Annotated(Event, frozen=True):
    """A handler attached `data`, as JSON, to the record or task that `target_type` and `target` name."""

    target_type: str
    target: str
    kind: str
    data: str
    labels: dict[str, str]


class AnnotationDropped(Event, frozen=True):
    """An annotation was dropped; `reason` is too_large or not_json."""

    kind: str
    reason: str


def annotation(
    target: object, kind: str, data: object, labels: Mapping[str, str] | None
) -> Annotated | AnnotationDropped:
    """Return the event of an annotation; data that is too large or has no JSON form makes an AnnotationDropped.

    >>> annotation(Record("in", 0, 7), "score", {"value": 0.5}, None)
    Annotated(target_type='record', target='in:0:7', kind='score', data='{"value":0.5}', labels={})
    """
    try:
        text = msgspec.json.encode(data, enc_hook=_plain).decode()
        given = {str(name): str(value) for name, value in (labels or {}).items()}
    except Exception:  # no error of an annotation may fail its record
        return AnnotationDropped(str(kind), "not_json")
    if len(text.encode()) + sum(len(name) + len(value) for name, value in given.items()) > MAX_ANNOTATION_BYTES:
        return AnnotationDropped(str(kind), "too_large")
    return Annotated(*_named(target), str(kind), text, given)


def _plain(value: object) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _named(target: object) -> tuple[str, str]:
    if isinstance(target, Record):
        return "record", target.label
    if isinstance(target, MessageGroup):
        return "record", target.source_message.label
    if isinstance(target, ExecutorTask):
        return "task", target.task_id
    if isinstance(target, ExecutorResult | ExecutorError):
        return "task", target.task.task_id
    return "other", str(target)
