"""A member of a group: warm children, retries, dead letters, two sinks."""

from drakkar_flow import (
    CollectResult,
    ExecutorResult,
    ExecutorTask,
    Handler,
    KafkaPayload,
    PendingContext,
    Record,
    SqlitePayload,
)
from drakkar_flow.model.task import ErrorAction, ExecutorError


class Elastic(Handler[str, str]):
    """Runs a warm child for each record."""

    async def arrange(self, messages: list[Record[str]], pending: PendingContext) -> list[ExecutorTask]:
        """One task per record; some records can't be arranged."""
        return [message.task(stdin=message.payload) for message in messages]

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
        """Try again twice, then a dead letter."""
        return ErrorAction.RETRY if error.attempt < 3 else ErrorAction.DLQ

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult:
        """To both sinks."""
        row = SqlitePayload(table="results", data={"id": result.task.task_id, "text": result.stdout})
        return CollectResult(kafka=[KafkaPayload(data=result.stdout)], sqlite=[row])


flow = Elastic()
