"""A handler that says on stdout which hook of its life runs; `app.fail` and `app.hang` name one that does so."""

import asyncio
import json
from typing import Any

from drakkar_flow import (
    DrakkarConfig,
    ExecutorResult,
    ExecutorTask,
    Handler,
    KafkaPayload,
    PendingContext,
    PrecomputedResult,
    Record,
    periodic,
)


class Living(Handler):
    """Precomputed tasks, one per record; values in capitals come from a thread."""

    settings: dict[str, Any]

    async def say(self, hook: str, **facts: Any) -> None:
        """One line on stdout; then fail or hang, if that is wanted."""
        print(json.dumps({"hook": hook, **facts}), flush=True)
        if self.settings.get("fail") == hook:
            raise RuntimeError(f"{hook} was told to fail")
        if self.settings.get("hang") == hook:
            await asyncio.Event().wait()

    async def on_startup(self, config: DrakkarConfig) -> DrakkarConfig:
        """Take small windows."""
        self.settings = config.app
        await self.say("on_startup")
        executor = config.executor.model_copy(update={"window_size": 3})
        return config.model_copy(update={"executor": executor})

    async def on_ready(self, config: DrakkarConfig, db_pool: object) -> None:
        """Find the configuration that on_startup made."""
        await self.say("on_ready", window_size=config.executor.window_size, pool=db_pool)

    async def on_assign(self, partitions: list[int]) -> None:
        """Say which."""
        await self.say("on_assign", partitions=sorted(partitions))

    async def on_revoke(self, partitions: list[int]) -> None:
        """Say which."""
        await self.say("on_revoke", partitions=sorted(partitions))

    @periodic(0.05)
    async def beat(self) -> None:
        """Count, by its metric."""
        await self.say("beat")

    @periodic(0.05)
    async def watch(self) -> None:
        """Run until it is cancelled."""
        try:
            await asyncio.Event().wait()
        finally:
            print(json.dumps({"hook": "watch ended"}), flush=True)

    async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        """One task per record."""
        assert len(messages) <= 3
        return [
            ExecutorTask(
                task_id=message.label,
                source_offsets=[message.offset],
                precomputed=PrecomputedResult(stdout=message.value.decode()),
            )
            for message in messages
        ]

    async def on_task_complete(self, result: ExecutorResult) -> KafkaPayload:
        """The value again, by way of a thread."""
        return KafkaPayload(data=await self.offload(str.strip, result.stdout), key=result.task.task_id)


flow = Living()
