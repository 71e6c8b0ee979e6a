"""Handlers and questions that several tests of flows share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drakkar_flow import (
    CollectResult,
    DrakkarConfig,
    ExecutorResult,
    ExecutorTask,
    Handler,
    KafkaPayload,
    MessageGroup,
    PendingContext,
    Record,
)
from drakkar_flow.model.payload import Payload
from drakkar_flow.observe.events.records import RecordsFinished
from drakkar_flow.testing import Outcome

__all__ = [
    "LANE", "PerRecord", "Unarranged", "Unfinished", "Watching", "Words", "config", "ends", "group_of", "keyed", "task",
]  # fmt: skip

LANE = ("input", 0)


def task(task_id: str, *offsets: int, **settings: Any) -> ExecutorTask:
    """A task for some offsets."""
    return ExecutorTask(task_id=task_id, source_offsets=list(offsets), **settings)


def keyed(keys: str, partition: int = 0) -> list[Record]:
    """A record for each letter, with the letter as its key and its offset as its value; a space stands for no key."""
    return [
        Record("input", partition, offset, b"%d" % offset, None if key == " " else key.encode())
        for offset, key in enumerate(keys)
    ]


class PerRecord(Handler[int, int]):
    """One task per record, named after its offset; each result is delivered; hooks note what they see."""

    def __init__(self) -> None:
        self.windows: list[list[int]] = []
        self.pending: list[set[str]] = []
        self.groups: list[MessageGroup] = []
        self.window_ends: list[tuple[int, list[int]]] = []

    async def arrange(self, messages: list[Record[int]], pending: PendingContext) -> list[ExecutorTask]:
        self.windows.append([record.offset for record in messages])
        self.pending.append(pending.pending_task_ids)
        return self.tasks(messages)

    def tasks(self, messages: list[Record[int]]) -> list[ExecutorTask]:
        return [task(f"t{record.offset}", record.offset) for record in messages]

    async def on_task_complete(
        self, result: ExecutorResult
    ) -> CollectResult | Payload | Sequence[CollectResult | Payload] | None:
        return CollectResult(kafka=[KafkaPayload(data=result.task.task_id)])


class Watching(PerRecord):
    """PerRecord that also notes finished records and windows."""

    async def on_message_complete(self, group: MessageGroup) -> None:
        self.groups.append(group)

    async def on_window_complete(self, results: list[ExecutorResult], source_messages: list[Record[int]]) -> None:
        self.window_ends.append((len(results), [record.offset for record in source_messages]))


def config(size: int = 100, linger_s: float = 0.0, **runtime: Any) -> DrakkarConfig:
    """Windows of `size`."""
    return DrakkarConfig(executor={"window_size": size, "window_linger_s": linger_s}, runtime=runtime)


def group_of(handler: PerRecord, offset: int = 0) -> MessageGroup:
    """The MessageGroup of an offset; each is there once."""
    (found,) = [group for group in handler.groups if group.source_message.offset == offset]
    return found


def ends(outcome: Outcome) -> tuple[int, ...]:
    """How many records ended done, skipped, dead."""
    events = outcome.of(RecordsFinished)
    return tuple(sum(getattr(event, what) for event in events) for what in ("done", "skipped", "dead"))


class Words(Handler[Any, Any]):
    """A task and a payload for each record."""

    async def arrange(self, messages: list[Record[Any]], pending: PendingContext) -> list[ExecutorTask]:
        return [ExecutorTask(task_id=str(m.offset), source_offsets=[m.offset], binary_path="count") for m in messages]

    async def on_task_complete(
        self, result: ExecutorResult
    ) -> CollectResult | Payload | Sequence[CollectResult | Payload] | None:
        return CollectResult(kafka=[KafkaPayload(data=result.task.task_id)])


class Unarranged(Words):
    """A handler that can't make tasks."""

    async def arrange(self, messages: list[Record[Any]], pending: PendingContext) -> list[ExecutorTask]:
        raise AttributeError("'NoneType' object has no attribute 'split'")


class Unfinished(Words):
    """A handler one of whose hooks always raises, while the others work."""

    async def on_message_complete(self, group: MessageGroup) -> None:
        raise KeyError("no such key")
