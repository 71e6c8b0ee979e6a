"""A hook that waits until a file appears, `await`ing or by blocking the event loop, as GATE and HOW say."""

import asyncio
import os
from threading import Event

from prometheus_client import Counter

from drakkar_flow import (
    BaseDrakkarHandler,
    ExecutorTask,
    KafkaPayload,
    PendingContext,
    PrecomputedResult,
)
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorResult

GATE, HOW = os.environ["GATE"], os.environ["HOW"]


class Waiting(BaseDrakkarHandler):
    """Passes records on once the gate is open."""

    seen = Counter("user_seen", "Records a hook has seen")

    async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        """One task per record."""
        for message in messages:
            self.seen.inc()
            if message.value == b"wait":
                await self.wait()
        return [
            ExecutorTask(task_id=m.label, source_offsets=[m.offset], precomputed=PrecomputedResult(stdout="x"))
            for m in messages
        ]

    async def wait(self) -> None:
        """Wait for the gate."""
        while not os.path.exists(GATE):  # noqa: ASYNC240, PTH110 - quick, and that it blocks is the point
            if HOW == "block":
                Event().wait(0.05)
            else:
                await asyncio.sleep(0.05)

    async def on_task_complete(self, result: ExecutorResult) -> KafkaPayload:
        """The result to the only Kafka sink."""
        return KafkaPayload(data=result.stdout)


flow = Waiting()
