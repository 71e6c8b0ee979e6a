"""The main job: search files for text and deliver the matches.

Each record asks for one search, `{"path": "...", "pattern": "..."}`. `grep` runs as one process per record. Its
matches go to a Kafka topic, an SQLite table and a file of JSON lines; a record's offset is committed when all three
have acknowledged them. A record with other JSON, or whose file can't be read, becomes a dead letter.

    python -m bytewax.run flows.pipeline
    drakkar-flow run flows/pipeline.py --config flows/pipeline.yaml
    python -c 'from drakkar_flow import StreamingRunner; from flows.pipeline import flow
    StreamingRunner.from_yaml(flow, "flows/pipeline.yaml").run()'
"""

from msgspec.structs import replace
from pydantic import BaseModel, ConfigDict

from drakkar_flow import (
    CollectResult,
    ErrorAction,
    ExecutorError,
    ExecutorResult,
    ExecutorTask,
    FilePayload,
    JsonlSink,
    KafkaPayload,
    KafkaSink,
    KafkaSource,
    PendingContext,
    PrecomputedResult,
    Record,
    SqlitePayload,
    SqliteSink,
    StreamFlow,
    Subprocess,
    dataflow,
)


class Search(BaseModel):
    """One record: look for `pattern`, taken literally, in the file `path`."""

    model_config = ConfigDict(extra="forbid")

    path: str
    pattern: str


class Found(BaseModel):
    """One result: the first matching lines, each with its number, and their number."""

    path: str
    pattern: str
    matches: int
    lines: list[str]


def to_tasks(records: list[Record], pending: PendingContext) -> list[ExecutorTask]:
    """Make one run of grep for each record."""
    return [
        ExecutorTask(
            task_id=record.label,
            source_offsets=[record.offset],
            args=["-n", "-m", "20", "-F", "--", record.payload.pattern, record.payload.path],
            metadata={"search": record.payload},
        )
        for record in records
    ]


def on_error(task: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
    """Distinguish "no match", grep's exit code 1, from a kill and from a failure."""
    if error.exit_code == 1:
        return [replace(task, task_id=f"{task.task_id}:nothing", precomputed=PrecomputedResult())]
    return ErrorAction.RETRY if error.kind == "signal" else ErrorAction.DLQ


def to_payloads(result: ExecutorResult) -> CollectResult:
    """Send the matches of one run to all three sinks."""
    search: Search = result.task.metadata["search"]
    lines = result.stdout.splitlines()
    found = Found(path=search.path, pattern=search.pattern, matches=len(lines), lines=lines)
    row = {"path": found.path, "pattern": found.pattern, "matches": found.matches, "first": "".join(lines[:1])}
    return CollectResult(
        kafka=[KafkaPayload(data=found, key=found.path)],
        sqlite=[SqlitePayload(table="found", data=row)],
        files=[FilePayload(path="found.jsonl", data=found)],
    )


flow = dataflow(
    StreamFlow("search", source=KafkaSource("searches"))
    .decode(Search)
    .arrange(to_tasks)
    .execute(Subprocess("grep"), on_error=on_error)
    .collect(to_payloads)
    .route(KafkaSink("found"), SqliteSink("found"), JsonlSink("found"))
)
