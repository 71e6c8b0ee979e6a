"""Each record goes through three programs side by side: a warm one, one for hashes, one for archives."""

from pathlib import Path

from drakkar_flow import ErrorAction, ExecutorError, ExecutorResult, ExecutorTask, Handler, KafkaPayload, Record


class Contract(Handler):
    """A value is a name; the record `wrong` makes a task of a number, `nobody` one for an executor nobody has."""

    async def arrange(self, messages: list[Record], pending: object) -> list[ExecutorTask]:
        """Tasks in every form that is taken."""
        tasks = []
        for message in messages:
            name = message.value.decode()
            if name == "wrong":
                tasks.append(message.task(args=["a", 3]))  # type: ignore[list-item]  # wrong on purpose
                continue
            tasks.append(message.task(stdin=message.value, executor="nobody" if name == "nobody" else ""))
            tasks.append(message.task(stdin=message.value, executor="sha"))
            tasks.append(message.task(args=["-nc"], stdin=message.value, executor="zip"))
            script = 'cat "$1"; exit 1'
            tasks.append(
                message.task(args=["-c", script, b"sh", Path(__file__)], binary_path=Path("/bin/sh"), executor="sh")
            )
        return tasks

    async def on_task_complete(self, result: ExecutorResult) -> KafkaPayload:
        """The bytes as they are; the key says whose they are."""
        return KafkaPayload(data=result.stdout_bytes, key=f"{result.task.executor}:{result.exit_code}")

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction:
        """Dead letters."""
        return ErrorAction.DLQ


flow = Contract()
