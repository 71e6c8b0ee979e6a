"""Lesson 6: long-lived children. Times the same handler and programs with one process per task and long-lived.

Only the configuration changes: `executor.mode: persistent` starts a few children once and sends them one task after
the other. `serve` turns a Python script into such a child (workers/with_helper.py). A filter that answers line by line,
like `cat`, needs no change (`protocol: lines`). Choosing a mode: docs/executors.md; workers in other languages:
docs/worker-protocol.md.

    python -m examples.06_warm_children
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from drakkar_flow import (
    CollectResult,
    ExecutorResult,
    ExecutorTask,
    Handler,
    KafkaPayload,
    PendingContext,
    Record,
    StreamingRunner,
)
from examples.playground import embedded_broker, run_until, send

SCRIPT = str(Path(__file__).parent / "workers" / "with_helper.py")
PATH = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"

RUNS: list[tuple[str, int, dict[str, Any]]] = [
    ("Python, one process per task", 40, {"binary_path": SCRIPT}),
    ("Python, long-lived", 10_000, {"binary_path": SCRIPT, "mode": "persistent"}),
    ("cat, one process per task", 1_000, {"binary_path": "cat"}),
    ("cat, long-lived", 20_000, {"binary_path": "cat", "mode": "persistent", "persistent": {"protocol": "lines"}}),
]
"""Name of each run, number of records, and its `executor` section."""


class Shout(Handler[str, str]):
    """Runs the program on every record, and records the times of the answers."""

    def __init__(self) -> None:
        self.answered_at: list[float] = []

    async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        """Make a task of each record; its text is the program's input."""
        return [record.task(stdin=record.value) for record in messages]

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult:
        """Deliver the program's output."""
        self.answered_at.append(time.monotonic())
        return CollectResult(kafka=[KafkaPayload(data=result.stdout)])

    def rate(self) -> float:
        """Answers per second, from the first to the last."""
        return (len(self.answered_at) - 1) / (self.answered_at[-1] - self.answered_at[0])


def timed(name: str, records: int, executor: dict[str, Any]) -> float:
    """Run the program over `records` records, on a separate broker; returns the tasks per second."""
    handler, topic = Shout(), name.replace(", ", "-").replace(" ", "-")
    with embedded_broker() as brokers:
        config = {
            "kafka": {"brokers": brokers, "source_topic": topic, "consumer_group": topic},
            "executor": {**executor, "env": {"PATH": PATH}},
            "sinks": {"kafka": {"shouted": {"topic": f"{topic}-shouted"}}},
            "metrics": {"enabled": False},
            "logging": {"level": "WARNING", "format": "console"},
        }
        runner = StreamingRunner.from_dict(handler, config)
        exit_code = run_until(runner, send(brokers, topic, (b"record %d" % number for number in range(records))))
    if exit_code or len(handler.answered_at) != records:
        raise SystemExit(exit_code or 1)
    return handler.rate()


def main() -> None:
    """Print a line for each run."""
    for name, records, executor in RUNS:
        print(f"{name:30} {timed(name, records, executor):8,.0f} tasks/s", flush=True)


if __name__ == "__main__":
    main()
