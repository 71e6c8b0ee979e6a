"""Handler whose tasks are calls of `measure`, and whose results are rows of a CSV file."""

from __future__ import annotations

from typing import Any

from drakkar_example.csv_sink import CsvRow

from drakkar_flow import ExecutorResult, ExecutorTask, Handler, Record, dataflow


async def measure(task: ExecutorTask) -> str:
    """Count the words of a task's text."""
    return str(len(str(task.stdin).split()))


class Words(Handler[str, str]):
    """Counts the words of each text."""

    async def arrange(self, messages: list[Record[str]], pending: Any) -> list[ExecutorTask]:
        """Make a task for each text."""
        return [message.task(stdin=message.payload) for message in messages]

    async def on_task_complete(self, result: ExecutorResult) -> CsvRow:
        """Make a row for each result."""
        return CsvRow(data={"text": result.task.stdin, "words": int(result.stdout)})


flow = dataflow(Words())
