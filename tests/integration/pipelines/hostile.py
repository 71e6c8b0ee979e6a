"""Every record is a shell script that is run as it stands; what fails becomes a dead letter."""

from drakkar_flow import (
    ErrorAction,
    ExecutorError,
    ExecutorResult,
    ExecutorTask,
    KafkaPayload,
    KafkaSink,
    Record,
    StreamFlow,
)


def to_tasks(records: list[Record], _pending: object) -> list[ExecutorTask]:
    """One shell per record."""
    return [
        ExecutorTask(
            task_id=record.label,
            source_offsets=[record.offset],
            binary_path="sh",
            args=["-c", record.value.decode()],
            stdin=b"x" * 1_000_000,
        )
        for record in records
    ]


def to_payload(result: ExecutorResult) -> KafkaPayload:
    """How much it printed, under the record's label."""
    return KafkaPayload(data=str(len(result.stdout)), key=result.task.task_id)


def to_dead_letter(_task: ExecutorTask, _error: ExecutorError) -> ErrorAction:
    """No second chance."""
    return ErrorAction.DLQ


flow = (
    StreamFlow("hostile").arrange(to_tasks).execute(on_error=to_dead_letter).collect(to_payload).route(KafkaSink("out"))
)
