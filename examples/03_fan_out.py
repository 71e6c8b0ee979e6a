"""Lesson 3: one record, many tasks, one answer, several sinks.

`arrange` may make any number of tasks for a record; all of them name its offset. `on_message_complete` is called once
for each record, after its last task has ended, with all results. The offset is committed after every task has ended and
every payload is durable in its sink: the Kafka topic, the table and the file.

    python -m examples.03_fan_out
"""

from pydantic import BaseModel

from drakkar_flow import (
    CollectResult,
    ExecutorTask,
    FilePayload,
    Handler,
    KafkaPayload,
    MessageGroup,
    PendingContext,
    Record,
    SqlitePayload,
    make_stable_task_id,
)
from examples.playground import play


class Document(BaseModel):
    """A text with a name."""

    name: str
    text: str


class Measures(BaseModel):
    """Counts by `wc`."""

    name: str
    lines: int = 0
    words: int = 0
    bytes: int = 0


class Measurer(Handler[Document, Measures]):
    """Counts lines, words and bytes of each document in parallel."""

    async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        """Make three tasks for each document."""
        return [
            ExecutorTask(
                task_id=make_stable_task_id(what, message.label),
                source_offsets=[message.offset],
                args=[f"--{what}"],
                stdin=message.payload.text,
                labels={"what": what},
            )
            for message in messages
            for what in ("lines", "words", "bytes")
        ]

    async def on_message_complete(self, group: MessageGroup) -> CollectResult:
        """Merge the three results, and deliver them to three sinks."""
        name = group.source_message.payload.name
        counts = {result.task.labels["what"]: int(result.stdout) for result in group.results}
        measures = Measures.model_validate({"name": name, **counts})
        return CollectResult(
            kafka=[KafkaPayload(data=measures, key=name)],
            sqlite=[SqlitePayload(table="measures", data=measures)],
            files=[FilePayload(path=f"{name[:1]}.jsonl", data=measures)],
        )


flow = Measurer()

CONFIG = {
    "kafka": {"source_topic": "documents", "consumer_group": "measurer"},
    "executor": {"binary_path": "wc", "max_executors": 4},
    "sinks": {
        "kafka": {"measures": {"topic": "documents-measures"}},
        "sqlite": {"measures": {"path": "demo-output/03_fan_out/measures.db"}},
        "filesystem": {"measures": {"base_path": "demo-output/03_fan_out"}},
    },
}
INPUTS = [
    b'{"name": "ada", "text": "to be\\nor not\\n"}',
    b'{"name": "bob", "text": "one line\\n"}',
    b'{"name": "art", "text": ""}',
]

if __name__ == "__main__":
    raise SystemExit(play(flow, CONFIG, INPUTS))
