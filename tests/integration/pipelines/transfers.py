"""Each record moves 1 from one account of its partition to another: two keys change together."""

import asyncio
import random

from drakkar_flow import ExecutorResult, ExecutorTask, Handler, KafkaPayload, PrecomputedResult, Record


class Transfers(Handler):
    """The accounts `from to` of a record are keys of the state."""

    state_model = int

    async def arrange(self, messages: list[Record], pending: object) -> list[ExecutorTask]:
        """Await first, then read and write."""
        await asyncio.sleep(random.random() * 0.02)
        for message in messages:
            source, target = message.value.decode().split()
            self.state[source] = self.state.get(source, 0) - 1
            self.state[target] = self.state.get(target, 0) + 1
        return [message.task(precomputed=PrecomputedResult(stdout=message.value.decode())) for message in messages]

    async def on_task_complete(self, result: ExecutorResult) -> KafkaPayload:
        """What was moved."""
        return KafkaPayload(data=result.stdout)


flow = Transfers()
