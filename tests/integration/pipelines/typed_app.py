"""A handler with settings of its own; each record is answered by itself."""

from pydantic import BaseModel

from drakkar_flow import CollectResult, ExecutorTask, Handler, KafkaPayload, PendingContext, PrecomputedResult
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorResult


class Settings(BaseModel):
    limit: int


class Echo(Handler):
    app_config_model = Settings

    async def on_startup(self, config: DrakkarConfig) -> DrakkarConfig:
        if config.app != Settings(limit=3):
            raise ValueError(f"not what the test sets: {config.app!r}")
        return config

    async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        return [
            ExecutorTask(
                task_id=message.label,
                source_offsets=[message.offset],
                precomputed=PrecomputedResult(stdout=message.value.decode()),
            )
            for message in messages
        ]

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult | None:
        return CollectResult(kafka=[KafkaPayload(data=int(result.stdout))])


flow = Echo()
