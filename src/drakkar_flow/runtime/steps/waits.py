"""Waits: the calls for which a partition's records wait, with their stacks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from drakkar_flow.model.outcome import Delivery, Failure
from drakkar_flow.model.record import Record, TopicPartition
from drakkar_flow.runtime import hook_calls
from drakkar_flow.runtime.steps.step import AsyncStep
from drakkar_flow.runtime.steps.windows import FiredTimers, RecordProgress, TaskRun, WindowRun

__all__ = ["Wait", "waits_of"]

_OUTERMOST, _INNERMOST = 8, 8  # frames of the stack of one call: its owner, and the call it waits for


class Wait(NamedTuple):
    """A call that has not ended: the step it belongs to, the record it is about, and its stack, innermost last."""

    step: str
    record: Record | None
    stack: tuple[str, ...]


def waits_of(steps: Iterable[AsyncStep[Any, Any]], topic_partition: TopicPartition, limit: int) -> list[Wait]:
    """Return the oldest calls about records of a partition, at most `limit`; call it on the event loop.

    If there is none, the records queue behind others: then those calls are returned, without a record.
    """
    steps = [step for step in steps if step.open]
    about: list[Wait] = []
    others: list[Wait] = []
    for step in steps:
        for task, subject in step.calls:
            if len(about) >= limit:
                return about
            record = next((record for record in _records(subject) if record.topic_partition == topic_partition), None)
            if record is not None:
                about.append(Wait(step.step_id, record, _stack(task, subject)))
            elif len(others) < limit:
                others.append(Wait(step.step_id, None, _stack(task, subject)))
    return about or others or [Wait(step.step_id, None, ()) for step in steps[:limit]]


def _records(subject: object) -> Iterator[Record]:
    match subject:
        case Record():
            yield subject
        case RecordProgress():
            yield subject.record
        case TaskRun():
            yield from (progress.record for progress in subject.in_progress)
        case WindowRun():
            yield from subject.records
        case FiredTimers():
            yield subject.progress.record
        case Delivery() | Failure():
            yield from (record for record, _ in subject.tokens)
        case Iterable():
            for item in subject:
                yield from _records(item)


def _stack(task: asyncio.Task[Any] | None, subject: object) -> tuple[str, ...]:
    if task is not None:
        return _ends(tuple(_frames(task.get_coro())))
    if not isinstance(subject, TaskRun):
        return ()
    where = "waits for its turn or its next attempt" if subject.running is None else subject.running.state()
    executor = f", executor {subject.task.executor}" if subject.task.executor else ""
    return (f"task {subject.task.task_id}, attempt {subject.retries + 1}{executor}: {where}",)


def _ends(frames: tuple[str, ...]) -> tuple[str, ...]:
    """Return both ends of a stack: a library's frames in the middle must not hide the hook that called it."""
    left_out = len(frames) - _OUTERMOST - _INNERMOST
    if left_out <= 0:
        return frames
    return (*frames[:_OUTERMOST], f"... {left_out} frames more", *frames[-_INNERMOST:])


def _frames(awaited: Any) -> Iterator[str]:
    """Return the frames of a suspended coroutine: `Task.get_stack` knows the outermost only."""
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            return
        if frame.f_code.co_filename != hook_calls.__file__:  # awaits every function
            yield f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
