"""Lesson 2: a handler, for work of external programs. You write the hooks, the library calls them.

`arrange` gets a window of records of one partition and returns tasks. Each task is one run of a program, here with the
text on its standard input. `on_task_complete` turns the program's output into payloads. `on_error` decides about a
failed task: run it again after a growing pause (RETRY), drop it (SKIP), send the record to the dead letter
queue (DLQ), or return replacement tasks. Without `on_error` failed tasks are skipped.

    python -m examples.02_handler
"""

from pydantic import BaseModel

from drakkar_flow import (
    CollectResult,
    ErrorAction,
    ExecutorError,
    ExecutorResult,
    ExecutorTask,
    Handler,
    KafkaPayload,
    PendingContext,
    Record,
)
from examples.playground import play


class Text(BaseModel):
    """A text to be sorted; `how` is an option of sort."""

    text: str
    how: str = ""


class Sorted(BaseModel):
    """The sorted lines, and the id of the task."""

    lines: list[str]
    task: str


class Sorter(Handler[Text, Sorted]):
    """Sorts the lines of each text by the program `sort`."""

    async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        """Make one task for each record with text; the others are finished immediately."""
        return [
            ExecutorTask(
                task_id=f"sort-{message.offset}",
                source_offsets=[message.offset],
                args=["--", "-"] if not message.payload.how else [message.payload.how, "--", "-"],
                stdin=message.payload.text,
                labels={"how": message.payload.how},
            )
            for message in messages
            if message.payload.text
        ]

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult:
        """Send the sorted lines."""
        answer = Sorted(lines=result.stdout.split("\n")[:-1], task=result.task.task_id)
        return CollectResult(kafka=[KafkaPayload(data=answer, key=result.task.labels["how"])])

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
        """Decide about a failed task."""
        if error.kind in ("timeout", "signal"):
            return ErrorAction.RETRY  # at most executor.max_retries times
        if error.kind == "launch_failure":
            return ErrorAction.DLQ  # no sort on this machine
        if task.parent_task_id is not None:
            return ErrorAction.SKIP  # a replacement failed
        plain = ExecutorTask(  # unknown option: run again without it
            task_id=f"{task.task_id}-plain", source_offsets=task.source_offsets, stdin=task.stdin, labels=task.labels
        )
        return [plain]


flow = Sorter()

CONFIG = {
    "kafka": {"source_topic": "texts", "consumer_group": "sorter"},
    "executor": {"binary_path": "sort", "max_executors": 2, "window_size": 10, "env": {"LC_ALL": "C"}},
    "sinks": {"kafka": {"sorted": {"topic": "texts-sorted"}}},
}
INPUTS = [
    b'{"text": "pear\\napple\\nfig"}',
    b'{"text": "10\\n9\\n8", "how": "--numeric-sort"}',
    b'{"text": "b\\na", "how": "--upside-down"}',
    b'{"text": ""}',
]

if __name__ == "__main__":
    raise SystemExit(play(flow, CONFIG, INPUTS))
