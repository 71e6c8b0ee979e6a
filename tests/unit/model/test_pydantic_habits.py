"""What handlers written for pydantic models do with ours."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, ValidationError

from drakkar_flow import (
    CollectResult,
    DeliveryError,
    ExecutorError,
    ExecutorResult,
    ExecutorTask,
    FilePayload,
    KafkaPayload,
    MessageGroup,
    PrecomputedResult,
    RedisPayload,
    SourceMessage,
)
from drakkar_flow.model.codec import encode, to_row


class Body(BaseModel):
    """A user's model."""

    a: int = 1


class Struct(msgspec.Struct):
    """A user's struct."""

    a: int = 1


TASK = ExecutorTask(task_id="t-1", source_offsets=[7], args=["-c"], stdin=b"in", metadata={"body": Body()})
RESULT = ExecutorResult(task=TASK, stdout="out", duration_seconds=0.25)
MESSAGE = SourceMessage(topic="in", partition=1, offset=7, value=b"{}", timestamp=5, payload=Body())
VALUES = [
    TASK,
    RESULT,
    MESSAGE,
    ExecutorError(task=TASK),
    PrecomputedResult(stdout="x"),
    MessageGroup(source_message=MESSAGE, tasks=[TASK], results=[RESULT]),
    KafkaPayload(data=Body(), key=b"k"),
    CollectResult(kafka=[KafkaPayload(data=Body())], files=[FilePayload(path="f", data=Struct())]),
    DeliveryError(sink_name="n", sink_type="kafka", error="e", payloads=[KafkaPayload(data=Body())]),
]
INTERNAL = {"epoch", "previous", "credit", "read_at", "held", "task_counter", "shard", "state_key", "share"}
INTERNAL |= {"raw_stdout", "raw_stderr"}
every_value = pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)


@every_value
def test_a_value_can_be_dumped_as_json(value: Any) -> None:
    """With all its fields by their names, whatever is inside."""
    dumped = json.loads(value.model_dump_json())
    assert list(dumped) == [name for name in value.__struct_fields__ if name not in INTERNAL]
    assert dumped == value.model_dump(mode="json")
    assert json.loads(value.model_dump_json(indent=2)) == dumped


@every_value
def test_a_copy_is_equal_and_independent(value: Any) -> None:
    """Values have no hash, as pydantic's models have none."""
    for twin in (
        value.model_copy(),
        value.model_copy(deep=True),
        copy.deepcopy(value),
        pickle.loads(pickle.dumps(value)),
    ):
        assert twin == value
        assert twin is not value
    with pytest.raises(TypeError, match="unhashable"):
        hash(value)


def test_what_is_inside_is_dumped_as_well() -> None:
    """Models as dicts; bytes stay bytes unless JSON is asked for."""
    dumped = RESULT.model_dump()
    assert dumped["task"]["metadata"] == {"body": {"a": 1}}
    assert dumped["task"]["stdin"] == b"in"
    assert RESULT.model_dump(mode="json")["task"]["stdin"] == "in"
    remembers = ExecutorTask(task_id="t-2", source_offsets=[], metadata={"before": [TASK]})
    assert remembers.model_dump()["metadata"]["before"][0]["task_id"] == "t-1"
    assert VALUES[-1].model_dump()["payloads"][0]["data"] == {"a": 1}
    (dumped,) = VALUES[-2].model_dump(mode="json")["files"]
    assert dumped == {"sink": "", "path": "f", "data": {"a": 1}, "format": "line"}


def test_fields_can_be_chosen() -> None:
    """By name, or those that hold something."""
    assert RESULT.model_dump(include={"stdout", "exit_code"}) == {"stdout": "out", "exit_code": 0}
    assert "task" not in RESULT.model_dump(exclude={"task"})
    assert json.loads(RESULT.model_dump_json(include={"stdout"})) == {"stdout": "out"}
    assert "pid" not in RESULT.model_dump(exclude_none=True)


@pytest.mark.parametrize("choice", ["include", "exclude"])
def test_what_is_inside_of_fields_can_not_be_chosen(choice: str) -> None:
    """Instead of leaving out more than was said."""
    for dump in (RESULT.model_dump, RESULT.model_dump_json):
        with pytest.raises(TypeError, match="names of fields, not a mapping"):
            dump(**{choice: {"task": {"metadata"}}})  # type: ignore[arg-type]  # wrong on purpose


def test_a_dumped_message_is_what_the_broker_holds() -> None:
    """What it has for acknowledgement is nobody's business; a copy keeps it."""
    names = {"topic", "partition", "offset", "key", "value", "timestamp", "payload", "parse_error"}
    message = SourceMessage(topic="in", partition=1, offset=2, value=b"x", epoch=3, credit=4)
    assert message.model_dump().keys() == names | {"headers", "is_tombstone"}
    assert SourceMessage.model_validate_json(message.model_dump_json()).label == "in:1:2"
    assert (message.model_copy().epoch, message.model_copy().credit) == (3, 4)


def test_a_copy_takes_other_values() -> None:
    """As a handler makes the task that is to take a failed one's place."""
    retry = TASK.model_copy(update={"task_id": "t-2", "args": ["-l"]})
    assert (retry.task_id, retry.args, retry.source_offsets, TASK.args) == ("t-2", ["-l"], [7], ["-c"])
    assert retry.metadata is TASK.metadata
    assert TASK.model_copy(deep=True).metadata["body"] is not TASK.metadata["body"]


def test_a_copy_is_checked_like_a_new_value() -> None:
    """What may not be made may not be copied either."""
    with pytest.raises(TypeError, match="no field 'arg'"):
        TASK.model_copy(update={"arg": []})
    with pytest.raises(TypeError, match="args must be a list, not str: '-l'"):
        TASK.model_copy(update={"args": "-l"})
    with pytest.raises(ValueError, match=r"RedisPayload\(op='delete'\) does not use data"):
        RedisPayload(key="k", data=1).model_copy(update={"op": "delete"})


def test_values_are_made_of_mappings_and_json() -> None:
    """Types are checked, all the way down, and everything that does not fit is said."""
    given = {"task": {"task_id": "t", "source_offsets": [1], "stdin": "x"}, "exit_code": "3"}
    result = ExecutorResult.model_validate(given)
    assert result == ExecutorResult(task=ExecutorTask(task_id="t", source_offsets=[1], stdin="x"), exit_code=3)
    assert ExecutorResult.model_validate_json(json.dumps(given)) == result
    assert ExecutorResult.model_validate(result) is result
    with pytest.raises(ValidationError) as failed:
        ExecutorResult.model_validate({"task": {"task_id": 5}, "stdout": None})
    assert {error["loc"] for error in failed.value.errors()} == {
        ("task", "task_id"),
        ("task", "source_offsets"),
        ("stdout",),
    }


def test_values_are_fields_of_pydantic_models() -> None:
    """A handler's own models may hold tasks, results and messages."""

    class Report(BaseModel):
        task: ExecutorTask
        messages: list[SourceMessage] = []

    report = Report(task=TASK, messages=[MESSAGE])
    assert report.task is TASK
    again = Report.model_validate_json(report.model_dump_json(exclude={"task": {"metadata"}, "messages": True}))
    assert again.task.task_id == "t-1"
    assert Report.model_json_schema()["properties"]["task"]["required"] == ["task_id", "source_offsets"]


@every_value
def test_a_value_can_be_the_data_of_a_payload(value: Any) -> None:
    """A message or a result as it is: in JSON as py-drakkar writes it, in a row with models as dicts."""
    assert encode(value) == value.model_dump_json().encode()
    assert to_row(value) == value.model_dump()


def test_bytes_of_a_message_are_text_in_json() -> None:
    """As pydantic writes them."""
    message = SourceMessage(topic="in", partition=1, offset=2, value=b'{"a":1}', key=b"k")
    written = json.loads(encode(message))
    assert (written["value"], written["key"]) == ('{"a":1}', "k")


def test_values_can_be_changed() -> None:
    """A hook may set what py-drakkar's hooks set, a message's payload for one."""
    message = MESSAGE.model_copy()
    message.payload = Body(a=2)
    result = CollectResult()
    result.kafka.append(KafkaPayload(data=message.payload))
    assert result.has_outputs
    assert MESSAGE.payload == Body(a=1)
