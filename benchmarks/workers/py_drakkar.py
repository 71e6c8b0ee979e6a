"""The same handlers written for py-drakkar 2.4.0; run by a Python 3.13 that has it, never imported by us."""
# mypy: ignore-errors

from __future__ import annotations

import os
import uuid

from drakkar import (
    BaseDrakkarHandler,
    CollectResult,
    DrakkarApp,
    DrakkarConfig,
    ExecutorTask,
    KafkaPayload,
    PrecomputedResult,
)
from pydantic import BaseModel

KIND = os.environ["BENCH_KIND"]


class Reading(BaseModel):
    id: int
    name: str
    score: float
    tags: list[str]
    sent_at: float


class Verdict(BaseModel):
    id: int
    name: str
    total: float
    sent_at: float


class Text(BaseModel):
    text: str


class Judge(BaseDrakkarHandler[Reading, Verdict]):
    async def arrange(self, messages, pending):
        return [
            ExecutorTask(
                task_id=f"t-{message.partition}-{message.offset}",
                source_offsets=[message.offset],
                metadata={"reading": message.payload},
                precomputed=PrecomputedResult(),
            )
            for message in messages
        ]

    async def on_task_complete(self, result):
        reading = result.task.metadata["reading"]
        verdict = Verdict(id=reading.id, name=reading.name, total=reading.score * 2, sent_at=reading.sent_at)
        return CollectResult(kafka=[KafkaPayload(data=verdict, key=b"%d" % verdict.id)])


class Cat(BaseDrakkarHandler):
    async def arrange(self, messages, pending):
        return [
            ExecutorTask(
                task_id=f"t-{message.partition}-{message.offset}",
                source_offsets=[message.offset],
                stdin=message.value.decode(),
            )
            for message in messages
        ]

    async def on_task_complete(self, result):
        return CollectResult(kafka=[KafkaPayload(data=Text(text=result.stdout))])


def main() -> None:
    output = os.environ["BENCH_OUTPUT"]
    config = DrakkarConfig.model_validate(
        {
            "kafka": {"brokers": os.environ["BENCH_KAFKA"]},
            "sources": {
                "kafka": {
                    "enabled": True,
                    "topic": os.environ["BENCH_SOURCE"],
                    "consumer_group": f"peer-{uuid.uuid4().hex}",
                    "startup_align_enabled": False,
                }
            },
            "sinks": {"kafka": {"results": {"topic": output}}},
            "dlq": {"topic": output},
            "executor": {"binary_path": "/bin/cat", "max_executors": int(os.environ["BENCH_SLOTS"])},
            "metrics": {"enabled": False},
            "ui": {"enabled": False},
            "logging": {"level": "WARNING"},
        }
    )
    DrakkarApp(handler=Judge() if KIND == "precomputed" else Cat(), config=config).run()


if __name__ == "__main__":
    main()
