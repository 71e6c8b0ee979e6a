"""Every record starts a process that neither reads its input nor ends by itself in the time of a test."""

from drakkar_flow import ExecutorTask, KafkaSink, Record, StreamFlow


def to_tasks(records: list[Record], _pending: object) -> list[ExecutorTask]:
    """One sleeper per record, which has a child of its own."""
    return [
        ExecutorTask(
            task_id=record.label, source_offsets=[record.offset], binary_path="sh", args=["-c", "sleep 60 & wait"]
        )
        for record in records
    ]


flow = StreamFlow("stubborn").arrange(to_tasks).execute().collect().route(KafkaSink("out"))
