"""A megabyte is made of every small record, by the step that LARGE names, and posted to the HTTP sink."""

import os

from drakkar_flow import ExecutorTask, HttpPayload, PendingContext, PrecomputedResult, StreamFlow
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorResult

MIB = 1024 * 1024
MADE_BY = os.environ["LARGE"]


def large(number: object) -> str:
    """Text of one megabyte, different for each record."""
    return str(number) + "x" * MIB


async def large_later(number: object) -> str:
    """The same from a function that waits."""
    return large(number)


def to_tasks(records: list[Record], _pending: PendingContext) -> list[ExecutorTask]:
    """A task per record: a program that prints a megabyte, one that reads it, or none."""
    tasks = []
    for record in records:
        task = ExecutorTask(task_id=record.label, source_offsets=[record.offset], binary_path="sh")
        if MADE_BY == "program":
            task.args = ["-c", f"head -c {MIB} /dev/zero | tr '\\0' x"]
        elif MADE_BY == "stdin":
            task.args, task.stdin = ["-c", "sleep 0.2; cat > /dev/null"], large(record.offset)
        else:
            task.precomputed = PrecomputedResult()
        tasks.append(task)
    return tasks


def to_payload(result: ExecutorResult) -> HttpPayload:
    """What was made."""
    return HttpPayload(data=large(result.task.task_id) if MADE_BY == "payload" else result.stdout)


start = StreamFlow("large").decode(str)
if MADE_BY == "map":
    flow = start.map(large).route()
elif MADE_BY == "map_async":
    flow = start.map_async(large_later, max_in_flight=4).route()
else:
    flow = start.arrange(to_tasks).execute().collect(to_payload).route()
