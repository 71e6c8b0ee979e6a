"""Every record goes through a process of its own; the output's key says where it came from."""

from drakkar_flow import ExecutorResult, ExecutorTask, KafkaPayload, KafkaSink, Record, StreamFlow


def to_tasks(records: list[Record], _pending: object) -> list[ExecutorTask]:
    """One task per record, its value on stdin."""
    return [
        ExecutorTask(task_id=record.label, source_offsets=[record.offset], stdin=record.value) for record in records
    ]


def to_payload(result: ExecutorResult) -> KafkaPayload:
    """What the process printed, under the record's label."""
    return KafkaPayload(data=result.stdout, key=result.task.task_id)


flow = StreamFlow("children").arrange(to_tasks).execute().collect(to_payload).route(KafkaSink("out"))
