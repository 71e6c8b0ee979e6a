"""Every record goes through a program, unless the cache has the result of an equal one."""

from drakkar_flow import (
    CachedExecute,
    CacheScope,
    ExecutorResult,
    ExecutorTask,
    KafkaPayload,
    KafkaSink,
    Record,
    StreamFlow,
)


def to_tasks(records: list[Record], _pending: object) -> list[ExecutorTask]:
    """One task per record, its value on stdin."""
    return [record.task(stdin=record.value) for record in records]


def to_payload(result: ExecutorResult) -> KafkaPayload:
    """The output of the program."""
    return KafkaPayload(data=result.stdout, key=result.task.task_id)


flow = (
    StreamFlow("cached")
    .arrange(to_tasks)
    .execute(cached=CachedExecute(ttl_s=3600, scope=CacheScope.GLOBAL))
    .collect(to_payload)
    .route(KafkaSink("out"))
)
