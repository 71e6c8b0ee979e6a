"""Every record becomes a task whose result is already known; the output's key says where it came from."""

from drakkar_flow import ExecutorResult, ExecutorTask, KafkaPayload, KafkaSink, PrecomputedResult, Record, StreamFlow


def to_tasks(records: list[Record], _pending: object) -> list[ExecutorTask]:
    """One task per record."""
    return [
        ExecutorTask(
            task_id=record.label,
            source_offsets=[record.offset],
            precomputed=PrecomputedResult(stdout=record.value.decode()),
        )
        for record in records
    ]


def to_payload(result: ExecutorResult) -> KafkaPayload:
    """The record's value again, under the record's label."""
    return KafkaPayload(data=result.stdout, key=result.task.task_id)


flow = StreamFlow("precomputed").arrange(to_tasks).execute().collect(to_payload).route(KafkaSink("out"))
