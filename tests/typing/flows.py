"""Flows and what they are made of."""

from __future__ import annotations

from pathlib import Path

from drakkar_flow import (
    ExecutorResult,
    ExecutorTask,
    Handler,
    JsonlSink,
    KafkaPayload,
    KafkaSink,
    KafkaSource,
    Limits,
    PendingContext,
    Persistent,
    Session,
    SourceMessage,
    SqliteSink,
    StreamFlow,
    Subprocess,
    Tumbling,
    Window,
)


def to_tasks(records: list[SourceMessage[str]], pending: PendingContext) -> list[ExecutorTask]:
    """For arrange."""
    return [ExecutorTask(task_id=record.label, source_offsets=[record.offset]) for record in records]


def to_payload(result: ExecutorResult) -> KafkaPayload:
    """For collect."""
    return KafkaPayload(data=result.stdout)


async def look_up(value: str) -> str:
    """For map_async."""
    return value


def right(handler: Handler[str, str]) -> None:
    """Every verb."""
    source = KafkaSource("in", "^more-.*")
    StreamFlow("f", source=source).decode(str, on_error="skip").map(str.upper).filter(len).flat_map(
        str.split
    ).map_async(look_up, max_in_flight=5, timeout_s=1.5).route(
        KafkaSink("out", topic="t"), JsonlSink("log"), SqliteSink("db"), on_error="dlq"
    )
    flow = StreamFlow("g").arrange(to_tasks, window=Window(size=5, linger_s=0.1))
    flow.execute(Subprocess("wc", max_executors=4, timeout_s=10)).collect(to_payload).route(on_error="fail")
    flow.execute(Subprocess("wc", limits=Limits(cpu_s=2, nice=10, umask="027")))
    flow.execute(
        Subprocess("grep", ok_exit_codes=[0, "1-2"]), Persistent(Path("x"), name="warm"), Subprocess(name="sha")
    )
    StreamFlow.from_handler(handler)


def wrong() -> None:
    """What is missing, misspelt or of another type."""
    flow = StreamFlow("f")
    StreamFlow()  # E: call-arg
    StreamFlow("f", source="in")  # E: arg-type
    KafkaSource(["in"])  # E: arg-type
    Limits(cpu_s="2")  # E: arg-type
    Limits(cpus=2)  # E: call-arg
    Subprocess("wc", limits={"cpu_s": 2})  # E: arg-type
    flow.map(5)  # E: arg-type
    flow.map(str, record=True)  # E: call-arg
    flow.flat_map(len)  # E: arg-type
    flow.map_async(str.upper)  # E: arg-type
    flow.map_async(look_up, 5)  # E: call-arg
    flow.decode(str, on_error="ignore")  # E: arg-type
    flow.arrange(to_tasks, window=5)  # E: arg-type
    flow.execute("wc")  # E: arg-type
    flow.execute(Subprocess("a"), "wc")  # E: arg-type
    Subprocess("a", max_executors="2")  # E: arg-type
    Subprocess("a", ok_exit_codes=1)  # E: arg-type
    Subprocess("a", name=5)  # E: arg-type
    flow.route("out")  # E: arg-type
    flow.route(on_error="retry")  # E: arg-type
    flow.sink(KafkaSink("out"))  # E: attr-defined
    Window(size="5")  # E: arg-type
    Subprocess(["wc", "-w"])  # E: arg-type
    KafkaSink()  # E: call-arg
    StreamFlow.from_handler(Handler)  # E: arg-type


def count(seen: int | None, word: str) -> tuple[int | None, str]:
    """For stateful."""
    return (seen or 0) + 1, word


def longest(length: int | None, word: str) -> int:
    """For window."""
    return max(length or 0, len(word))


counted = StreamFlow("counted").decode(str).stateful(count, key=str.lower, state=int, ttl_s=60)
per_minute = counted.window(Tumbling(60), key=str.lower, add=longest, state=int, late="dlq")
once = counted.dedupe(str.lower, None).route(KafkaSink("words"))


def windows_with_mistakes() -> None:
    """Never called: they would be errors at run time too."""
    counted.window(60, key=str.lower, add=longest, state=int)  # E: arg-type
    counted.window(Session(60), key=str.lower, add=longest, state=int)  # E: call-arg
    counted.window(Tumbling(60), key=str.lower, add=longest, state=int, late="drop")  # E: arg-type
