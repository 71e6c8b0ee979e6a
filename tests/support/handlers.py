"""Handlers and questions that several tests of flows share."""

from __future__ import annotations

from drakkar_flow import CollectResult, DrakkarConfig, ExecutorTask, Handler, KafkaPayload, Record
from drakkar_flow.observe.events.records import RecordsFinished

__all__ = [
    "LANE", "PerRecord", "Unarranged", "Unfinished", "Watching", "Words", "config", "ends", "group_of", "keyed", "task",
]  # fmt: skip

LANE = ("input", 0)


def task(task_id: str, *offsets: int, **settings) -> ExecutorTask:
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

    def __init__(self):
        self.windows: list[list[int]] = []
        self.pending: list[set[str]] = []
        self.groups = []
        self.window_ends = []

    async def arrange(self, messages, pending):
        self.windows.append([record.offset for record in messages])
        self.pending.append(pending.pending_task_ids)
        return self.tasks(messages)

    def tasks(self, messages):
        return [task(f"t{record.offset}", record.offset) for record in messages]

    async def on_task_complete(self, result):
        return CollectResult(kafka=[KafkaPayload(data=result.task.task_id)])


class Watching(PerRecord):
    """PerRecord that also notes finished records and windows."""

    async def on_message_complete(self, group):
        self.groups.append(group)

    async def on_window_complete(self, results, source_messages):
        self.window_ends.append((len(results), [record.offset for record in source_messages]))


def config(size: int = 100, linger_s: float = 0.0, **runtime) -> DrakkarConfig:
    """Windows of `size`."""
    return DrakkarConfig(executor={"window_size": size, "window_linger_s": linger_s}, runtime=runtime)


def group_of(handler, offset: int = 0):
    """The MessageGroup of an offset; each is there once."""
    (found,) = [group for group in handler.groups if group.source_message.offset == offset]
    return found


def ends(outcome):
    """How many records ended done, skipped, dead."""
    events = outcome.of(RecordsFinished)
    return tuple(sum(getattr(event, what) for event in events) for what in ("done", "skipped", "dead"))


class Words(Handler):
    """A task and a payload for each record."""

    async def arrange(self, messages, pending):
        return [ExecutorTask(task_id=str(m.offset), source_offsets=[m.offset], binary_path="count") for m in messages]

    async def on_task_complete(self, result):
        return CollectResult(kafka=[KafkaPayload(data=result.task.task_id)])


class Unarranged(Words):
    """A handler that can't make tasks."""

    async def arrange(self, messages, pending):
        raise AttributeError("'NoneType' object has no attribute 'split'")


class Unfinished(Words):
    """A handler one of whose hooks always raises, while the others work."""

    async def on_message_complete(self, group):
        raise KeyError("no such key")
