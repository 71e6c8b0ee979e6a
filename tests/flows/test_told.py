"""One record through all kinds of trouble: everything that is told of it says which record and which task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from drakkar_flow import DrakkarConfig, ErrorAction, KafkaSink, PendingContext, Record, StreamFlow
from drakkar_flow.config.sections.delivery import RetryConfig
from drakkar_flow.errors import SinkError
from drakkar_flow.kernel.causes import cause_text
from drakkar_flow.model.group import MessageGroup
from drakkar_flow.model.payload import DeliveryError
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask
from drakkar_flow.observe.events.lifecycle import DrainFinished, StateChanged
from drakkar_flow.observe.events.records import RecordsFailed
from drakkar_flow.observe.events.sinks import DeliveriesSuppressed
from drakkar_flow.observe.events.source import PartitionsAssigned, PartitionsRevoked
from drakkar_flow.observe.log.lines import LINES
from drakkar_flow.testing import (
    FlowRun,
    MemoryDeadLetters,
    MemorySink,
    MemorySinkSettings,
    Outcome,
    ScriptedExecutor,
    run_flow,
)
from support.handlers import PerRecord, task

LIFE = {StateChanged, PartitionsAssigned, PartitionsRevoked, DrainFinished}
PLACE = {"topic": "input", "partition": 5, "offset": 71}
RETRIED = DrakkarConfig(executor={"max_retries": 1, "retry": {"exit_codes": [3]}})
TWICE = MemorySinkSettings(retry=RetryConfig(attempts=2, initial_s=0.001, max_s=0.001))


class Troubled(PerRecord):
    """One task, t71, and hooks that raise where it is said."""

    def __init__(self, raising: str = "") -> None:
        super().__init__()
        self.raising = raising

    async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        self.may_raise("arrange")
        return await super().arrange(messages, pending)

    async def on_task_complete(self, result: ExecutorResult) -> Any:
        self.may_raise("on_task_complete")
        return await super().on_task_complete(result)

    async def on_message_complete(self, group: MessageGroup) -> None:
        self.may_raise("on_message_complete")

    async def on_window_complete(self, results: list[ExecutorResult], source_messages: list[Record]) -> None:
        self.may_raise("on_window_complete")

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction:
        self.may_raise("on_error")
        return ErrorAction.DLQ

    async def on_delivery_error(self, error: DeliveryError) -> Any:
        self.may_raise("on_delivery_error")
        return "dlq"

    def message_label(self, msg: Record) -> str:
        self.may_raise("message_label")
        return f"order {msg.offset}"

    def task_priority(self, task: ExecutorTask) -> int:
        self.may_raise("task_priority")
        return 0

    def may_raise(self, hook: str) -> None:
        """Raise in the hook that was chosen."""
        if hook == self.raising:
            raise ValueError("not this one")


def run(handler: PerRecord, **settings: Any) -> Outcome:
    """Run a handler over one record."""
    return run_flow(handler, [Record("input", 5, 71, b"1")], **settings)


def lines(outcome: Outcome) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the log says of it, without the life of the flow itself."""
    for event in outcome.events:
        line = LINES[type(event)](event) if type(event) in LINES.keys() - LIFE else None
        if line is not None and line.level in ("info", "warning", "error"):
            yield line.event, line.fields


def check(outcome: Outcome, *names: str) -> None:
    """Check that these lines were written, each with record and task."""
    told = list(lines(outcome))
    assert [name for name, _ in told] == list(names)
    for name, fields in told:
        assert PLACE.items() <= fields.items(), name
        assert fields["task_id"] == "t71", name


def test_a_failing_task_is_followed_to_a_dead_letter_that_does_not_get_through_at_once() -> None:
    """Task, retry, the last retry, the failure, the letter that fails, the letter that is written."""
    letters = MemoryDeadLetters([OSError("no broker")])
    outcome = run(Troubled(), executor=ScriptedExecutor({"t71": 3}), config=RETRIED, dead_letters=letters)
    check(
        outcome,
        "executor_task_failed",
        "executor_task_retried",
        "executor_task_failed",
        "max_retries_exceeded",
        "records_failed",
        "dlq_send_failed",
        "dlq_message_sent",
    )
    (letter,) = outcome.dead_letters
    assert letter.task is not None
    assert (letter.task_id, letter.task.attempt) == ("t71", 2)
    assert next(fields["label"] for name, fields in lines(outcome) if name == "records_failed") == "order 71"


def test_a_delivery_that_fails_is_followed_to_its_dead_letter() -> None:
    """The sink's retry, its failure, the record's, and a letter that names the task as well."""
    sink = MemorySink(script=[SinkError("down")] * 9, settings=TWICE)
    outcome = run(Troubled(), sinks=[sink])
    check(outcome, "sink_delivery_retry", "sink_delivery_failed", "records_failed", "dlq_message_sent")
    assert outcome.dead_letters[0].task_id == "t71"


@pytest.mark.parametrize(
    ("hook", "executor", "others"),
    [
        ("on_task_complete", {}, ["records_failed", "dlq_message_sent"]),
        ("on_error", {"t71": 3}, ["records_failed"]),
        ("task_priority", {}, []),
    ],
)
def test_a_hook_that_raises_about_a_task_names_it(hook: str, executor: dict[str, int], others: list[str]) -> None:
    """And the record, and the hook."""
    outcome = run(Troubled(hook), executor=ScriptedExecutor(executor))
    told = [name for name, _ in lines(outcome) if name != "executor_task_failed"]
    assert told == ["handler_hook_failed", *others]
    for name, fields in lines(outcome):
        assert (PLACE | {"task_id": "t71"}).items() <= fields.items(), name


@pytest.mark.parametrize("hook", ["arrange", "on_message_complete", "on_window_complete", "message_label"])
def test_a_hook_that_raises_about_records_names_them(hook: str) -> None:
    """Where no single task is concerned, the record is named."""
    executor = ScriptedExecutor({"t71": 3} if hook == "message_label" else {})
    told = [fields for name, fields in lines(run(Troubled(hook), executor=executor)) if name == "handler_hook_failed"]
    assert told
    assert all((PLACE | {"hook": hook, "error": "not this one"}).items() <= fields.items() for fields in told)


def test_a_delivery_hook_that_raises_names_what_it_was_asked_about() -> None:
    """on_delivery_error is asked about a batch: its records and tasks are told."""
    sink = MemorySink(script=[SinkError("down")] * 9, settings=TWICE)
    told = [fields for name, fields in lines(run(Troubled("on_delivery_error"), sinks=[sink])) if "hook" in fields]
    assert [(PLACE | {"hook": "on_delivery_error", "task_id": "t71"}).items() <= fields.items() for fields in told] == [
        True
    ]


def test_a_task_that_is_pending_already_is_named_with_its_record() -> None:
    """Which of the window's records brought the id a second time."""

    class Twins(PerRecord):
        def tasks(self, messages: list[Record]) -> list[ExecutorTask]:
            return [task("same", record.offset) for record in messages]

    outcome = run_flow(Twins(), [1, 2], config=DrakkarConfig(executor={"window_size": 2}))
    ((name, fields),) = lines(outcome)
    assert (name, fields["task_id"], fields["partition"], fields["offset"]) == (
        "duplicate_task_id_in_pending",
        "same",
        0,
        1,
    )


def test_what_is_not_written_for_a_partition_that_went_is_counted_by_partition() -> None:
    """Payloads that wait behind a slow write, when their partition is taken away."""
    sink = MemorySink(max_batch=1)
    sink.gate.shut()
    with FlowRun(PerRecord(), range(6), partitions=2, sinks=[sink], open_end=True) as flow:
        flow.wait_until(lambda: sink.gate.waiting and flow.in_flight.records == 6)
        flow.reader.revoke([("input", 0)])
        sink.gate.open()
        flow.wait_until(lambda: flow.in_flight.records == 0)
        told = [event for event in flow.events if isinstance(event, DeliveriesSuppressed)]
    assert {topic_partition for event in told for topic_partition, _ in event.topic_partitions} == {("input", 0)}
    assert (
        sum(event.count for event in told) == sum(count for event in told for _, count in event.topic_partitions) >= 2
    )
    assert {event.about.fields()["partition"] for event in told} == {0}


class Placed(BaseModel):
    """What an order has."""

    id: int
    lines: list[int]


@pytest.mark.parametrize("where", ["decode", "map"])
def test_g18_a_record_that_does_not_fit_its_model_is_named_without_its_values(where: str) -> None:
    """The fields and what is wrong with them, in one line; every record with the same fault has the same cause."""
    flow = (
        StreamFlow("orders").decode(Placed)
        if where == "decode"
        else StreamFlow("orders").decode(dict).map(Placed.model_validate)
    )
    records = [{"id": "pa55word", "lines": [1, f"secret{number}"]} for number in range(12)]
    outcome = run_flow(flow.route(KafkaSink("out")), records)
    failed = outcome.of(RecordsFailed)
    assert len(failed) == 12
    fields = (
        "Placed.id: Input should be a valid integer, unable to parse string as an integer; Placed.lines.1: Input should"
    )
    for event in failed:
        assert fields in event.error
        assert "pa55word" not in event.error
        assert "secret" not in event.error
        assert "\n" not in event.error
    assert len({cause_text(event.error) for event in failed}) == 1


def test_g18_a_model_with_many_faults_names_five() -> None:
    """And the number of the others."""
    record = {"id": 1, "lines": ["x"] * 9}
    (letter,) = run_flow(StreamFlow("orders").decode(Placed).route(KafkaSink("out")), [record]).dead_letters
    assert letter.error.endswith(
        "Placed.lines.4: Input should be a valid integer, unable to parse string as an integer; 4 more"
    )
