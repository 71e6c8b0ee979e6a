"""Lesson 6: long-lived children, and what they save.

A program that is started for each task pays for its start each time: a Python script some 50 ms, one that loads a model
seconds. A long-lived child is started once and answers task after task (docs/executors.md says when to take which).
Here the same script does the same tasks both ways, and each way is timed.

    python -m examples.06_warm_children [TASKS]
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from drakkar_flow import (
    ExecutorResult,
    ExecutorTask,
    KafkaPayload,
    KafkaSink,
    PendingContext,
    Persistent,
    Record,
    StreamFlow,
    StreamingRunner,
    Subprocess,
)
from examples.playground import embedded_broker, read, run_until, send

SCRIPT = str(Path(__file__).parent / "workers" / "with_helper.py")
TASKS = 40


def to_tasks(args: list[str], records: list[Record], _pending: PendingContext) -> list[ExecutorTask]:
    """Make a task of each record."""
    return [
        ExecutorTask(task_id=record.label, source_offsets=[record.offset], args=args, stdin=record.value)
        for record in records
    ]


def to_payload(result: ExecutorResult) -> KafkaPayload:
    """Deliver what the script said."""
    return KafkaPayload(data=result.stdout)


def pipeline(name: str, program: Subprocess | Persistent, args: list[str]) -> StreamFlow:
    """The same flow for either way: only what is executed differs."""
    arrange: Callable[..., list[ExecutorTask]] = partial(to_tasks, args)
    return StreamFlow(name).arrange(arrange).execute(program).collect(to_payload).route(KafkaSink("out", topic=name))


WAYS = [
    pipeline("one-process-per-task", Subprocess(sys.executable, max_executors=2), [SCRIPT]),
    pipeline("long-lived-children", Persistent(sys.executable, [SCRIPT], children=2), []),
]


def seconds(brokers: str, flow: StreamFlow, count: int) -> float:
    """Run a flow over `count` records; how long it took from its first result to its last."""
    config = {"kafka": {"brokers": brokers, "source_topic": "texts", "consumer_group": flow.name}}
    settings = {**config, "dlq": {"topic": "texts_dlq"}, "metrics": {"enabled": False}, "logging": {"level": "WARNING"}}
    code = run_until(StreamingRunner.from_dict(flow, settings), count)
    assert code == 0, f"the flow ended with {code}"
    written = [message.timestamp()[1] for message in read(brokers, flow.name)]
    assert len(written) == count
    return (max(written) - min(written)) / 1000


def main(count: int) -> None:
    """Time both ways over the same records."""
    with embedded_broker() as brokers:
        send(brokers, "texts", [b"text %d" % number for number in range(count)])
        for flow in WAYS:
            print(f"{flow.name}: {count} tasks in {seconds(brokers, flow, count):.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else TASKS)
