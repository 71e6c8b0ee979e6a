"""Every record costs a program of 0.2 s."""

from drakkar_flow import ExecutorResult, ExecutorTask, KafkaPayload, KafkaSink, Record, StreamFlow


def to_tasks(records: list[Record], _pending: object) -> list[ExecutorTask]:
    """One task per record."""
    return [
        ExecutorTask(task_id=record.label, source_offsets=[record.offset], args=["-c", "sleep 0.2"])
        for record in records
    ]


def to_payload(result: ExecutorResult) -> KafkaPayload:
    """The record's label."""
    return KafkaPayload(data=result.task.task_id)


flow = StreamFlow("sleepy").arrange(to_tasks).execute().collect(to_payload).route(KafkaSink("out"))
