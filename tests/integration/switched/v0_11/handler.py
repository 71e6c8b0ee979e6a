"""Checks the parts of orders, as a user of py-drakkar 0.11 has it."""

from drakkar import (
    BaseDrakkarHandler,
    CacheScope,
    CollectResult,
    DrakkarApp,
    ErrorAction,
    ExecutorError,
    ExecutorResult,
    ExecutorTask,
    HttpPayload,
    KafkaPayload,
    MessageGroup,
    MongoPayload,
    PendingContext,
    PrecomputedResult,
    SourceMessage,
    make_task_id,
)
from pydantic import BaseModel


class Order(BaseModel):
    """What comes in."""

    order: int
    parts: list[str]


class Checked(BaseModel):
    """One part that was checked."""

    order: int
    part: str
    size: int


class Summary(BaseModel):
    """What became of an order."""

    order: int
    ok: int
    bad: int
    replaced: int
    total: int


class OrdersHandler(BaseDrakkarHandler[Order, Checked]):
    """A task for each part, none for those that are known; a summary for each order."""

    async def arrange(self, messages: list[SourceMessage], pending: PendingContext) -> list[ExecutorTask]:
        return [self.task(message, part) for message in messages for part in message.payload.parts]

    def task(self, message: SourceMessage, part: str) -> ExecutorTask:
        known = self.cache.peek(part)
        return ExecutorTask(
            task_id=make_task_id("part"),
            args=["-c", 'case "$PART" in bad*) echo "bad part" >&2; exit 2;; *) printf %s "$PART" | wc -c;; esac'],
            env={"PART": part},
            source_offsets=[message.offset],
            metadata={"order": message.payload.order, "part": part},
            labels={"order": str(message.payload.order)},
            precomputed=None if known is None else PrecomputedResult(stdout=str(known)),
        )

    def task_priority(self, task: ExecutorTask) -> tuple[int, int]:
        return (len(task.metadata["part"]), min(task.source_offsets))

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult:
        part, size = result.task.metadata["part"], int(result.stdout)
        self.cache.set(part, size, ttl=60, scope=CacheScope.CLUSTER)
        checked = Checked(order=result.task.metadata["order"], part=part, size=size)
        return CollectResult(kafka=[KafkaPayload(data=checked)], mongo=[MongoPayload(collection="parts", data=checked)])

    async def on_message_complete(self, group: MessageGroup) -> CollectResult:
        summary = Summary(
            order=group.source_message.payload.order,
            ok=group.succeeded,
            bad=group.failed,
            replaced=group.replaced,
            total=group.total,
        )
        return CollectResult(http=[HttpPayload(data=summary)])

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
        part = task.metadata["part"]
        if part == "bad-but-mended":
            mended = task.model_copy(update={"task_id": make_task_id("mended"), "env": {"PART": "mended"}})
            return [mended]
        return ErrorAction.SKIP if "bad part" in error.stderr else ErrorAction.RETRY


if __name__ == "__main__":
    DrakkarApp(handler=OrdersHandler(), config_path="drakkar.yaml").run()
