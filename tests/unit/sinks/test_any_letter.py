"""A dead letter can always be made, whatever is in the task, the payload, the record or the exception."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from drakkar_flow.errors import BatchFailed
from drakkar_flow.model.outcome import Failure, FailureKind
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorTask
from drakkar_flow.runtime.failures import failure_of
from drakkar_flow.sinks.dead_letter_messages import MINIMAL, dead_letter_messages
from drakkar_flow.sinks.dlq import DeadLetterQueue
from drakkar_flow.sinks.kafka.payload import KafkaPayload
from drakkar_flow.sinks.postgres.payload import PostgresPayload
from drakkar_flow.testing import MemoryDeadLetters


class Silent:
    """Something whose repr and text raise."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


class Liar:
    """Something whose repr is no text."""

    def __repr__(self) -> Any:
        return 5


class Array:
    """What NumPy's arrays look like to JSON."""

    def tolist(self) -> list[int]:
        return [1, 2]

    def __bool__(self) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    def __eq__(self, other: object) -> Any:
        return self

    __hash__ = None  # type: ignore[assignment]  # unhashable


class Endless(dict):  # type: ignore[type-arg]  # of anything
    """A mapping whose items can't be walked through."""

    def items(self) -> Any:
        raise RuntimeError("no items")


class Strange(BaseModel):
    """A model with a field that has no JSON form."""

    value: Any = None


def circle() -> list[Any]:
    """A list that holds itself."""
    loop: list[Any] = [1]
    loop.append({"again": loop})
    return loop


def deep(levels: int = 100_000) -> Any:
    """Lists in lists."""
    value: Any = "bottom"
    for _ in range(levels):
        value = [value]
    return value


ODD: dict[str, Any] = {
    "path": Path("/x"),
    "int": 5,
    "none": None,
    "bytes": b"\xff\x00",
    "silent": Silent(),
    "liar": Liar(),
    "array": Array(),
    "endless": Endless(a=1),
    "circle": circle(),
    "deep": deep(),
    "surrogate": "\udcff",
    "nan": float("nan"),
    "infinite": float("-inf"),
    "huge int": 2**200,
    "set": {1, "a", Silent()},
    "keys": {Silent(): 1, (1, 2): 2, None: 3, b"k": 4, "\ud800": 5},
    "decimal": Decimal("NaN"),
    "function": deep,
    "class": Silent,
    "model": Strange(value=Silent()),
    "complex": 1j,
    "huge text": "x" * 3_000_000,
    "generator": (n for n in range(3)),
    "exception": ValueError(Silent()),
}


def task_with(odd: Any) -> ExecutorTask:
    """A task that was given something it can't take, wherever one may be put after it was made."""
    task = ExecutorTask(task_id="t", source_offsets=[7])
    task.args, task.labels, task.binary_path, task.stdin = ["-c", odd], odd, odd, odd
    task.task_id = task.parent_task_id = odd
    return task


def failures_with(odd: Any) -> dict[str, Failure]:
    """A failure of every kind with something odd in it."""
    record = Record("in", 2, 7, b"value", b"key", headers=[("h", b"v")])
    odd_record = Record("in", 2, 7, odd, odd, headers=[("h", odd), (odd, b"v")])
    tokens = ((record, 1),)
    error = ExecutorError(task=task_with(odd), exception=odd, stderr=odd, stdout=odd, command=["sh", odd])
    return {
        "task": Failure(kind=FailureKind.TASK, stage="collect", error="e", tokens=tokens, task=error, task_id=odd),
        "error": Failure(
            kind=FailureKind.HOOK,
            stage=odd,
            error=odd,
            tokens=tokens,
            exception_class=odd,
            stacktrace=odd,
            labels=(odd,),
        ),
        "record": Failure(kind=FailureKind.DECODE, stage="decode", error="e", tokens=((odd_record, 1),)),
        "payload": Failure(kind=FailureKind.SINK, stage="s", error="e", tokens=tokens, payload=odd),
        "data": Failure(
            kind=FailureKind.SINK, stage="s", error="e", tokens=tokens, payload=KafkaPayload(data=odd, key=odd)
        ),
        "row": Failure(
            kind=FailureKind.SINK, stage="s", error="e", tokens=tokens, payload=PostgresPayload(table="t", data=[odd])
        ),
        "raised": failure_of(FailureKind.ARRANGE, "arrange", ValueError(odd), tokens),
    }


@pytest.mark.parametrize("limit", [None, 64 * 1024, 0, MINIMAL])
@pytest.mark.parametrize("odd", ODD)
def test_f1_a_letter_can_be_made_of_anything(odd: str, limit: int | None) -> None:
    """Its key, value and headers are what a producer takes, and what is JSON can be read."""
    for name, failure in failures_with(ODD[odd]).items():
        (letter,) = dead_letter_messages(failure, 1.0, limit)
        assert isinstance(letter.value, bytes | None), name
        assert isinstance(letter.key, bytes | None), name
        for header, value in letter.headers:
            header.encode()
            assert isinstance(value, bytes | None), (name, header)
        headers = dict(letter.headers)
        if failure.kind is FailureKind.SINK:
            (payload,) = json.loads(letter.value or b"")["original_payloads"]
            assert isinstance(payload, str)
        if "drakkar.task" in headers:
            assert "task_id" in json.loads(headers["drakkar.task"] or b"")
        if limit == MINIMAL:
            assert sum(len(key) + len(value or b"") for key, value in letter.headers) < 1500, name


def test_f1_what_was_replaced_is_said() -> None:
    """By its repr, in its place, and named in a header."""
    record = Record("in", 2, 7, b"value")
    task = ExecutorTask(task_id="t", source_offsets=[7])
    task.args = ["-c", 5, 1j, Path("/x"), float("nan")]  # type: ignore[list-item]  # wrong on purpose
    failure = Failure(
        kind=FailureKind.TASK, stage="c", error="e", tokens=((record, 1),), task=ExecutorError(task=task, exit_code=3)
    )
    headers = dict(dead_letter_messages(failure, 1.0)[0].headers)
    assert json.loads(headers["drakkar.task"] or b"")["args"] == ["-c", 5, "1j", "/x", "nan"]
    assert json.loads(headers["drakkar.replaced"] or b"") == ["args.2", "args.4"]
    payload = KafkaPayload(data={"a": [1, Silent()], "b": 2**70})
    failure = Failure(kind=FailureKind.SINK, stage="s", error="e", tokens=((record, 1),), payload=payload)
    (letter,) = dead_letter_messages(failure, 1.0)
    data = json.loads(json.loads(letter.value or b"")["original_payloads"][0])["data"]
    assert data == {"a": [1, "<Silent whose repr raises RuntimeError>"], "b": str(2**70)}
    assert json.loads(dict(letter.headers)["drakkar.replaced"] or b"") == ["data.a.1", "data.b"]


def test_f1_nothing_is_said_to_be_replaced_where_nothing_was() -> None:
    """Texts, numbers, bytes, dates and paths have a natural form."""
    payload = KafkaPayload(data={"a": b"\xff", "p": Path("x"), "n": 1.5, "d": msgspec.UNSET is None})
    failure = Failure(kind=FailureKind.SINK, stage="s", error="e", tokens=(), payload=payload)
    assert "drakkar.replaced" not in dict(dead_letter_messages(failure, 1.0)[0].headers)


@pytest.mark.anyio
async def test_f1_one_letter_never_holds_up_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where making it breaks: only it is tried again."""
    sent: list[Any] = []

    class Writer:
        async def write(self, messages: list[Any]) -> dict[int, Any]:
            sent.extend(messages)
            return {}

    def make(failure: Failure, *args: Any) -> Any:
        if failure.error == "broken":
            raise RuntimeError("a bug")
        return dead_letter_messages(failure, *args)

    monkeypatch.setattr("drakkar_flow.sinks.dlq.KafkaWriter", lambda *_: Writer())
    queue = DeadLetterQueue("dlq", "localhost:1")
    monkeypatch.setattr("drakkar_flow.sinks.dlq.dead_letter_messages", make)
    tokens = ((Record("in", 0, 1, b"v"), 1),)
    failures = [Failure(kind=FailureKind.DECODE, stage="d", error=text, tokens=tokens) for text in ("a", "broken", "c")]
    with pytest.raises(BatchFailed) as caught:
        await queue.write(failures)
    assert list(caught.value.failures) == [1]
    assert len(sent) == 2


@pytest.mark.anyio
async def test_f1_the_kit_makes_letters_as_the_worker_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what breaks there breaks in a test."""

    def make(*_args: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr("drakkar_flow.testing.sinks.dead_letter_messages", make)
    with pytest.raises(BatchFailed):
        await MemoryDeadLetters().write([Failure(kind=FailureKind.DECODE, stage="d", error="e", tokens=())])
