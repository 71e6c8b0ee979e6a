"""Searches files for patterns, as a user of py-drakkar 0.9.2 has it."""

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
    FilePayload,
    KafkaPayload,
    PendingContext,
    PostgresPayload,
    RedisPayload,
    SourceMessage,
    make_task_id,
    periodic,
)
from prometheus_client import Counter
from pydantic import BaseModel

logger = structlog.get_logger()
lines_found = Counter("search_lines_found", "Lines that matched")


class SearchRequest(BaseModel):
    """What is asked for."""

    request_id: str
    pattern: str
    file: str


class Hits(BaseModel):
    """What one search found."""

    request_id: str
    file: str
    lines: list[int]


class HitsRow(BaseModel):
    """A row of the table `hits`."""

    request_id: str
    file: str
    count: int


class WindowSummary(BaseModel):
    """What a window came to."""

    requests: int
    found: int
    failed: int


class SearchHandler(BaseDrakkarHandler[SearchRequest, Hits]):
    """One search for each message."""

    async def on_startup(self, config: DrakkarConfig) -> DrakkarConfig:
        config.executor.max_executors = min(config.executor.max_executors, 8)
        self.most_tries = config.executor.max_retries
        return config

    async def on_ready(self, config: DrakkarConfig, db_pool) -> None:
        self.db_pool = db_pool
        await db_pool.execute("CREATE TABLE IF NOT EXISTS hits (request_id text, file varchar(200), count int)")
        await db_pool.execute("CREATE TABLE IF NOT EXISTS heartbeats (worker text PRIMARY KEY, beats int)")

    async def on_assign(self, partitions: list[int]) -> None:
        await logger.ainfo("search_partitions", category="handler", partitions=sorted(partitions))

    async def arrange(self, messages: list[SourceMessage], pending: PendingContext) -> list[ExecutorTask]:
        tasks = []
        for message in messages:
            if message.payload is None:
                continue
            request = message.payload
            tasks.append(
                ExecutorTask(
                    task_id=make_task_id("search"),
                    args=["-n", "-F", "-e", request.pattern, request.file],
                    source_offsets=[message.offset],
                    metadata={"request_id": request.request_id, "file": request.file, "tries": 0},
                )
            )
        return tasks

    async def collect(self, result: ExecutorResult) -> CollectResult | None:
        request_id, file = result.task.metadata["request_id"], result.task.metadata["file"]
        lines = [int(line.split(":", 1)[0]) for line in result.stdout.splitlines()]
        lines_found.inc(len(lines))
        hits = Hits(request_id=request_id, file=file, lines=lines)
        row = HitsRow(request_id=request_id, file=file, count=len(lines))
        outputs = CollectResult(
            kafka=[KafkaPayload(sink="hits", data=hits, key=request_id.encode())],
            postgres=[PostgresPayload(table="hits", data=row)],
            files=[FilePayload(path="hits.jsonl", data=hits)],
        )
        outputs.redis.append(RedisPayload(key=f"hits:{request_id}", data=row, ttl=3600))
        return outputs

    async def on_window_complete(
        self, results: list[ExecutorResult], source_messages: list[SourceMessage]
    ) -> CollectResult:
        failed = sum(result.exit_code != 0 for result in results)
        summary = WindowSummary(requests=len(source_messages), found=len(results) - failed, failed=failed)
        return CollectResult(kafka=[KafkaPayload(sink="windows", data=summary)])

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction:
        task.metadata["tries"] += 1
        await logger.awarning(
            "search_failed", category="handler", task_id=task.task_id, exit_code=error.exit_code, stderr=error.stderr
        )
        if error.exit_code == 1:
            return ErrorAction.SKIP
        return ErrorAction.RETRY if task.metadata["tries"] <= 2 else ErrorAction.SKIP

    async def on_delivery_error(self, error: DeliveryError) -> DeliveryAction:
        await logger.awarning("not_delivered", category="handler", sink=error.sink_name, error=error.error)
        return DeliveryAction.RETRY if error.sink_type == "redis" else DeliveryAction.DLQ

    def message_label(self, msg: SourceMessage) -> str:
        return msg.payload.request_id if msg.payload else f"unreadable {msg.partition}:{msg.offset}"

    @periodic(seconds=0.5)
    async def beat(self) -> None:
        async with self.db_pool.acquire() as connection:
            await connection.execute(
                "INSERT INTO heartbeats VALUES ($1, 1) ON CONFLICT (worker) DO UPDATE SET beats = heartbeats.beats + 1",
                "search",
            )


if __name__ == "__main__":
    DrakkarApp(handler=SearchHandler(), config_path="drakkar.yaml").run()
