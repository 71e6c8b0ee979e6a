"""Every record starts a process that does not end by itself; the record `block` blocks the event loop instead."""

import time

from drakkar_flow import ExecutorTask, KafkaSink, Record, StreamFlow


def to_tasks(records: list[Record], _pending: object) -> list[ExecutorTask]:
    """One sleeper per record, or none ever again."""
    if any(record.value == b"block" for record in records):
        print("blocked", flush=True)
        time.sleep(1000)
    return [
        ExecutorTask(
            task_id=record.label, source_offsets=[record.offset], binary_path="sh", args=["-c", "exec sleep 1000"]
        )
        for record in records
    ]


flow = StreamFlow("blocking").arrange(to_tasks).execute().collect().route(KafkaSink("out"))
