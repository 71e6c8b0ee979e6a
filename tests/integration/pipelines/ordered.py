"""A program for each record that fails once for some, and finds out when another of its key runs beside it."""

import os

from drakkar_flow import ExecutorResult, ExecutorTask, KafkaPayload, KafkaSink, Record, StreamFlow

_SCRIPT = """
mkdir "$DIR/lock-$1" || exit 1
if [ $(($2 % 5)) -eq 0 ] && mkdir "$DIR/tried-$2" 2>/dev/null; then rmdir "$DIR/lock-$1"; exit 75; fi
sleep "0.0$(($2 % 3))"
rmdir "$DIR/lock-$1"
echo "$2"
"""


def to_tasks(records: list[Record], _pending: object) -> list[ExecutorTask]:
    """The key and the number of each record as arguments."""
    return [
        ExecutorTask(
            task_id=(record.key or b"").decode(),
            source_offsets=[record.offset],
            args=["-c", _SCRIPT, "sh", f"{record.partition}-{(record.key or b'').decode()}", record.value.decode()],
            env={"DIR": os.environ["LOCKS"]},
        )
        for record in records
    ]


def to_payload(result: ExecutorResult) -> KafkaPayload:
    """The number under its key."""
    return KafkaPayload(data=int(result.stdout), key=result.task.task_id)


flow = StreamFlow("ordered").arrange(to_tasks).execute().collect(to_payload).route(KafkaSink("out"))
