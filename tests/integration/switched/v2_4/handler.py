"""Counts the words of documents, as a user of py-drakkar 2.4 has it."""

import structlog
from drakkar import (
    BaseDrakkarHandler,
    CollectResult,
    DeliveryAction,
    DeliveryError,
    DrakkarApp,
    DrakkarConfig,
    ErrorAction,
    ExecutorError,
    ExecutorResult,
    ExecutorTask,
    HttpPayload,
    KafkaPayload,
    MessageGroup,
    MongoPayload,
    PendingContext,
    PostgresPayload,
    PrecomputedResult,
    RedisPayload,
    SourceMessage,
    make_stable_task_id,
    periodic,
)
from prometheus_client import Counter
from pydantic import BaseModel

logger = structlog.get_logger()


class Settings(BaseModel):
    """The section `app`."""

    shortest: int = 1


class Document(BaseModel):
    """What comes in."""

    name: str
    text: str = ""
    urgent: bool = False


class Count(BaseModel):
    """What goes out."""

    name: str
    words: int


class Params(BaseModel):
    """Parameters of a named statement."""

    name: str


class Verdict(BaseModel):
    """What became of one document."""

    name: str
    tasks: int
    failed: int
    label: str


class WordsHandler(BaseDrakkarHandler[Document, Count]):
    """One count for each document, empty ones without a program."""

    app_config_model = Settings
    documents_counted = Counter("words_documents_counted", "Documents that were counted")

    async def on_startup(self, config: DrakkarConfig) -> DrakkarConfig:
        await logger.ainfo("shortest", category="handler", shortest=self.app_config.shortest)
        return config

    async def on_ready(self, config: DrakkarConfig, db_pool) -> None:
        self.db_pool = db_pool
        self.runs = 0
        await db_pool.execute("CREATE TABLE IF NOT EXISTS counts (name text PRIMARY KEY, words int CHECK (words < 50))")
        await db_pool.execute("CREATE TABLE IF NOT EXISTS seen (name text)")

    async def arrange(self, messages: list[SourceMessage], pending: PendingContext) -> list[ExecutorTask]:
        tasks = []
        for message in messages:
            document = message.payload
            task_id = make_stable_task_id("count", message.topic, f"{message.partition}:{message.offset}")
            if task_id in pending.pending_task_ids:
                continue
            done = PrecomputedResult(stdout="0") if len(document.text) < self.app_config.shortest else None
            tasks.append(
                ExecutorTask(
                    task_id=task_id,
                    args=["-c", 'test "$MODE" = broken && exit 3; wc -w'],
                    stdin=document.text,
                    env={"MODE": "broken" if document.name.startswith("broken") else "whole"},
                    source_offsets=[message.offset],
                    metadata={"name": document.name, "urgent": document.urgent, "tries": 0},
                    labels={"document": document.name},
                    precomputed=done,
                )
            )
        return tasks

    def task_priority(self, task: ExecutorTask) -> int:
        return 0 if task.metadata["urgent"] else 1

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult | None:
        words = await self.offload(int, result.stdout.strip())
        count = Count(name=result.task.metadata["name"], words=words)
        self.annotate(result.task, "words", {"words": words})
        self.documents_counted.inc()
        return CollectResult(
            kafka=[KafkaPayload(data=count, key=count.name.encode())],
            postgres=[
                PostgresPayload(op="upsert", table="counts", data=count, conflict=["name"], update_columns=["words"]),
                PostgresPayload(op="statement", statement="seen", params=Params(name=count.name)),
            ],
            mongo=[MongoPayload(op="upsert", collection="counts", data=count, filter=Params(name=count.name))],
            redis=[
                RedisPayload(key=count.name, data=count),
                RedisPayload(op="incrby", key="total", amount=words),
            ],
        )

    async def on_message_complete(self, group: MessageGroup) -> CollectResult | None:
        verdict = Verdict(
            name=group.source_message.payload.name,
            tasks=group.total,
            failed=group.failed,
            label=self.message_label(group.source_message),
        )
        return CollectResult(http=[HttpPayload(data=verdict)])

    async def on_window_complete(
        self, results: list[ExecutorResult], source_messages: list[SourceMessage]
    ) -> CollectResult | None:
        await logger.ainfo("window", category="handler", results=len(results), messages=len(source_messages))
        return None

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
        task.metadata["tries"] += 1
        if error.kind == "nonzero_exit" and task.metadata["tries"] <= 1:
            return ErrorAction.RETRY
        if task.metadata["name"] == "broken-for-now":
            return [
                ExecutorTask(
                    task_id=f"{task.task_id}-again",
                    args=task.args,
                    stdin=task.stdin,
                    source_offsets=task.source_offsets,
                    metadata=task.metadata,
                )
            ]
        return ErrorAction.SKIP

    async def on_delivery_error(self, error: DeliveryError) -> DeliveryAction:
        return DeliveryAction.DLQ

    def message_label(self, msg: SourceMessage) -> str:
        return f"{msg.partition}:{msg.offset}"

    @periodic(seconds=0.5, on_error="stop")
    async def count_runs(self) -> None:
        self.runs += await self.db_pool.fetchval("SELECT 1")


if __name__ == "__main__":
    DrakkarApp(WordsHandler(), "drakkar.yaml").run()
