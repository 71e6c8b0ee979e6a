"""The same work as a handler: a precomputed task, a result and a payload object for each record."""

from __future__ import annotations

import json
import os

from benchmarks.workers.model import Reading, Verdict, config, judge
from drakkar_flow import (
    CollectResult,
    ExecutorResult,
    ExecutorTask,
    Handler,
    KafkaPayload,
    PendingContext,
    PrecomputedResult,
    SourceMessage,
    StreamingRunner,
)


class Judge(Handler[Reading, Verdict]):
    """One precomputed task per record."""

    async def arrange(self, messages: list[SourceMessage], pending: PendingContext) -> list[ExecutorTask]:
        return [
            ExecutorTask(
                task_id=f"t-{message.partition}-{message.offset}",
                source_offsets=[message.offset],
                metadata={"reading": message.payload},
                precomputed=PrecomputedResult(),
            )
            for message in messages
        ]

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult:
        verdict = judge(result.task.metadata["reading"])
        return CollectResult(kafka=[KafkaPayload(data=verdict, key=b"%d" % verdict.id)])


if __name__ == "__main__":
    executor = json.loads(os.environ.get("BENCH_EXECUTOR", "{}"))
    raise SystemExit(StreamingRunner.from_dict(Judge(), config(executor=executor)).run())
