"""Every record goes through a process that takes its time; tests run it with /bin/sh as the program."""

from drakkar_flow import ExecutorResult, ExecutorTask, KafkaPayload, KafkaSink, Record, StreamFlow


def to_tasks(records: list[Record], _pending: object) -> list[ExecutorTask]:
    """One task per record, its value on stdin."""
    return [
        ExecutorTask(
            task_id=record.label,
            source_offsets=[record.offset],
            stdin=record.value,
            args=["-c", "read x; echo $x; exec sleep 1"],
        )
        for record in records
    ]


def to_payload(result: ExecutorResult) -> KafkaPayload:
    """What the process printed, under the record's label."""
    return KafkaPayload(data=result.stdout.strip(), key=result.task.task_id)


flow = StreamFlow("slow").arrange(to_tasks).execute().collect(to_payload).route(KafkaSink("out"))
