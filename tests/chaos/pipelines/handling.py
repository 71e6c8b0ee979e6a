"""A handler that counts in the hooks of windows and tasks, with waits before each change."""

import asyncio
import random

from drakkar_flow import (
    CollectResult,
    ExecutorResult,
    ExecutorTask,
    Handler,
    KafkaPayload,
    PendingContext,
    PrecomputedResult,
    Record,
    StreamFlow,
)


class Handling(Handler[int, str]):
    """One task per record, whose result is known; the output is the record's number."""

    state_model = int

    async def arrange(self, messages: list[Record[int]], pending: PendingContext) -> list[ExecutorTask]:
        """Count the records of the window by key."""
        await asyncio.sleep(random.random() * 0.02)
        for message in messages:
            self.add((message.key or b"").decode())
        return [
            message.task(precomputed=PrecomputedResult(stdout=f"{(message.key or b'').decode()} {message.payload}"))
            for message in messages
        ]

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult:
        """Count the task, in any order."""
        await asyncio.sleep(random.random() * 0.05)
        key, number = result.stdout.split()
        self.add(f"task {key}")
        return CollectResult(kafka=[KafkaPayload(data=number)])

    async def on_window_complete(self, results: list[ExecutorResult], source_messages: list[Record[int]]) -> None:
        """Count the tasks of the window."""
        await asyncio.sleep(random.random() * 0.02)
        for result in results:
            self.add(f"window {result.stdout.split()[0]}")

    def add(self, key: str) -> None:
        """One more."""
        self.state[key] = self.state.get(key, 0) + 1


flow = StreamFlow.from_handler(Handling(), "handling")
