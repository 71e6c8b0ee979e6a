"""Work that waits 0-5 ms for each record, in a flow's `map_async` or in a handler's hook; tells how long it took."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from pathlib import Path

from benchmarks.workers.model import TOTAL, config
from drakkar_flow import (
    CollectResult,
    ExecutorResult,
    ExecutorTask,
    Handler,
    KafkaPayload,
    KafkaSink,
    PendingContext,
    PrecomputedResult,
    SourceMessage,
    StreamFlow,
    StreamingRunner,
)

ORDERING = os.environ.get("BENCH_ORDERING", "unordered")
IN_FLIGHT = int(os.environ.get("BENCH_IN_FLIGHT", "100"))


class Stopwatch:
    """Writes down when the first call began and the last one ended, on the clock that all processes share."""

    def __init__(self) -> None:
        self._began_at = 0.0
        self._ended = 0

    def begin(self) -> None:
        """A call begins."""
        self._began_at = self._began_at or time.monotonic()

    def end(self) -> None:
        """A call has ended."""
        self._ended += 1
        if self._ended == TOTAL:
            times = {"began_at": self._began_at, "ended_at": time.monotonic()}
            Path(os.environ["BENCH_REPORT"]).write_text(json.dumps(times))


stopwatch = Stopwatch()


async def wait(value: bytes) -> bytes:
    """The work."""
    stopwatch.begin()
    await asyncio.sleep(random.random() * 0.005)
    stopwatch.end()
    return value


class Waiting(Handler[bytes, bytes]):
    """A precomputed task per record; its hook waits."""

    async def arrange(self, messages: list[SourceMessage], pending: PendingContext) -> list[ExecutorTask]:
        return [
            ExecutorTask(
                task_id=f"t-{message.offset}",
                source_offsets=[message.offset],
                metadata={"value": message.value},
                precomputed=PrecomputedResult(),
            )
            for message in messages
        ]

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult:
        return CollectResult(kafka=[KafkaPayload(data=await wait(result.task.metadata["value"]))])


flow = (
    StreamFlow("waiting")
    .decode(bytes)
    .map_async(wait, max_in_flight=IN_FLIGHT, ordering=ORDERING)  # type: ignore[arg-type]
    .route(KafkaSink("results"))
)

if __name__ == "__main__":
    main = Waiting() if os.environ.get("BENCH_STYLE") == "handler" else flow
    settings = config(executor={"ordering": ORDERING}, runtime={"max_in_flight_records": TOTAL})
    raise SystemExit(StreamingRunner.from_dict(main, settings).run())
