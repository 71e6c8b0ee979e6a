"""A handler whose hooks raise: `on_task_complete` for every tenth number, `arrange` for the word poison."""

from drakkar_flow import ExecutorResult, ExecutorTask, Handler, KafkaPayload, PendingContext, PrecomputedResult, Record


class Raising(Handler):
    """Precomputed tasks, one per record."""

    async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        """Refuse the whole window when one record is poison."""
        if any(message.value == b"poison" for message in messages):
            raise ValueError("poison")
        return [
            ExecutorTask(
                task_id=message.label,
                source_offsets=[message.offset],
                precomputed=PrecomputedResult(stdout=message.value.decode()),
            )
            for message in messages
        ]

    async def on_task_complete(self, result: ExecutorResult) -> KafkaPayload:
        """The value again, but for every tenth."""
        if int(result.stdout) % 10 == 0:
            raise ValueError("tenth")
        return KafkaPayload(data=result.stdout, key=result.task.task_id)


flow = Raising()
