"""The job: one search per record; results go to four databases, many matches also to HTTP and a file."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from drakkar_flow import (
    CollectResult,
    DeliveryAction,
    DeliveryError,
    ErrorAction,
    ExecutorError,
    ExecutorResult,
    ExecutorTask,
    FilePayload,
    Handler,
    HttpPayload,
    KafkaPayload,
    MongoPayload,
    PendingContext,
    PostgresPayload,
    Record,
    RedisPayload,
    dataflow,
)

HOOK_ABOVE = 20
"""More matches than this also go to the HTTP hook."""
FILE_ABOVE = 50
"""More matches than this also go to the JSONL file."""


class Search(BaseModel):
    """One message: count the lines of `path` that contain `pattern`.

    A `marker` is a directory that does not exist yet: the search fails once, then works.
    """

    id: int
    path: Path
    pattern: str
    marker: Path | None = None


class Found(BaseModel):
    """One result; `record_id` is the id of the message."""

    record_id: int
    path: str
    pattern: str
    matches: int


class Searcher(Handler[Search, Found]):
    """Runs `search.sh` once per message."""

    async def arrange(self, messages: list[Record[Search]], pending: PendingContext) -> list[ExecutorTask]:
        """Make one task per message."""
        return [
            message.task(args=[search.marker or "-", search.pattern, search.path], metadata={"search": search})
            for message in messages
            for search in [message.payload]
        ]

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult:
        """Send a result to its four to six targets."""
        search: Search = result.task.metadata["search"]
        found = Found(record_id=search.id, path=str(search.path), pattern=search.pattern, matches=int(result.stdout))
        return CollectResult(
            kafka=[KafkaPayload(key=str(search.id), data=found)],
            postgres=[PostgresPayload(table="found", data=found)],
            mongo=[MongoPayload(collection="found", data=found)],
            redis=[RedisPayload(op="push", key="found", data=found)],
            http=[HttpPayload(data=found)] if found.matches > HOOK_ABOVE else [],
            files=[FilePayload(path="found.jsonl", data=found)] if found.matches > FILE_ABOVE else [],
        )

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction:
        """Give up on files that can't be read; anything else is worth another run."""
        return ErrorAction.DLQ if error.exit_code == 2 else ErrorAction.RETRY

    async def on_delivery_error(self, error: DeliveryError) -> DeliveryAction:
        """Databases come back, so their rows are written again; what the hook refuses is a dead letter."""
        return DeliveryAction.DLQ if error.sink_type == "http" else DeliveryAction.RETRY


flow = dataflow(Searcher())
