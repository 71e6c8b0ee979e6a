"""One `cat` per record: stdin in, stdout out."""

from __future__ import annotations

import os

from benchmarks.workers.model import config
from drakkar_flow import (
    BaseDrakkarHandler,
    CollectResult,
    ExecutorResult,
    ExecutorTask,
    KafkaPayload,
    PendingContext,
    SourceMessage,
    StreamingRunner,
)


class Cat(BaseDrakkarHandler[bytes, bytes]):
    """One task per record."""

    async def arrange(self, messages: list[SourceMessage], pending: PendingContext) -> list[ExecutorTask]:
        return [
            ExecutorTask(task_id=message.label, source_offsets=[message.offset], stdin=message.value)
            for message in messages
        ]

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult:
        return CollectResult(kafka=[KafkaPayload(data=result.stdout)])


if __name__ == "__main__":
    executor = {"binary_path": "/bin/cat", "max_executors": int(os.environ.get("BENCH_SLOTS", "4"))}
    raise SystemExit(StreamingRunner.from_dict(Cat(), config(executor=executor)).run())
