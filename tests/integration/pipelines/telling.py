"""Runs each message as a shell script; what the script says decides what goes wrong afterwards."""

from drakkar_flow import BaseDrakkarHandler, ErrorAction, ExecutorTask, KafkaPayload, PendingContext
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorResult


class Telling(BaseDrakkarHandler):
    """One task per message, with bytes on its stdin that are no text."""

    async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        """The message is the script."""
        return [
            ExecutorTask(
                task_id=f"script-{message.offset}",
                source_offsets=[message.offset],
                args=["-c", message.value.decode()],
                stdin=b"\x00\xff",
                env={"TOKEN": "hunter2"},
            )
            for message in messages
        ]

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
        """Failed tasks are kept."""
        return ErrorAction.DLQ

    async def on_task_complete(self, result: ExecutorResult) -> KafkaPayload:
        """Raise, or deliver: too much if the script says so."""
        said = result.stdout.strip()
        if said == "raise":
            raise ValueError("not this one")
        return KafkaPayload(data="x" * 3_000_000 if said == "large" else said)


flow = Telling()
