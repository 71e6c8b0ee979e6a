"""Every record runs the shell script of the variable SCRIPT."""

import os

from drakkar_flow import ExecutorResult, ExecutorTask, KafkaPayload, KafkaSink, Record, StreamFlow


def to_tasks(records: list[Record], _pending: object) -> list[ExecutorTask]:
    """One shell per record."""
    return [
        ExecutorTask(task_id=record.label, source_offsets=[record.offset], args=["-c", os.environ["SCRIPT"]])
        for record in records
    ]


def to_payload(result: ExecutorResult) -> KafkaPayload:
    """What it printed."""
    return KafkaPayload(data=result.stdout, key=result.task.task_id)


flow = StreamFlow("scripts").arrange(to_tasks).execute().collect(to_payload).route(KafkaSink("out"))
