"""Dead letters hold everything that is needed to see what failed and to try again."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from drakkar_flow.model.outcome import Failure, FailureKind
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorTask
from drakkar_flow.sinks.dead_letter_messages import DeadLetterMessage, dead_letter_messages
from drakkar_flow.sinks.filesystem.payload import FilePayload
from drakkar_flow.sinks.kafka.payload import KafkaPayload
from drakkar_flow.sinks.sqlite.payload import SqlitePayload

NOW = 1700000000.25


class Body(BaseModel):
    """A model as users write them."""

    a: int
    raw: Any = None


class Row(msgspec.Struct):
    """A struct as users write them."""

    a: int
    raw: bytes = b""


def record(offset: int = 7, **more: Any) -> Record:
    """A record of partition 2."""
    return Record(topic="in", partition=2, offset=offset, **{"value": b"\xffbody", "key": b"\x00key"} | more)


def failure(kind: FailureKind = FailureKind.DECODE, *records: Record, **more: Any) -> Failure:
    """A failure that holds records."""
    fields = {"stage": "decode", "error": "no JSON", "exception_class": "DecodeError", "stacktrace": "Traceback"}
    return Failure(kind=kind, tokens=tuple((each, 1) for each in records), **fields | more)


def letter(made: Failure, **more: Any) -> DeadLetterMessage:
    """The only letter of a failure."""
    (only,) = dead_letter_messages(made, NOW, **more)
    return only


def delivery(payload: Any, **more: Any) -> Failure:
    """A failed delivery."""
    fields = {"payload": payload, "sink_type": "kafka", "sink_name": "results", "attempts": 5}
    return failure(FailureKind.SINK, record(), **fields | more)


def body(made: DeadLetterMessage) -> dict[str, Any]:
    """The JSON object of a delivery's letter."""
    parsed: dict[str, Any] = json.loads(made.value or b"")
    return parsed


def payload_of(made: DeadLetterMessage) -> Any:
    """The payload inside a delivery's letter."""
    (text,) = body(made)["original_payloads"]
    return json.loads(text)


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if kind is not FailureKind.SINK])
def test_a_failed_record_keeps_key_value_and_headers(kind: FailureKind) -> None:
    """The letter can be sent to the source topic as it is; the reasons stand in Connect's headers."""
    made = letter(failure(kind, record(headers=[("trace", b"\xfe"), ("trace", b"2")])))

    assert (made.key, made.value) == (b"\x00key", b"\xffbody")
    assert made.headers == [
        ("trace", b"\xfe"),
        ("trace", b"2"),
        ("__connect.errors.topic", b"in"),
        ("__connect.errors.partition", b"2"),
        ("__connect.errors.offset", b"7"),
        ("__connect.errors.stage", b"decode"),
        ("__connect.errors.exception.class.name", b"DecodeError"),
        ("__connect.errors.exception.message", b"no JSON"),
        ("__connect.errors.exception.stacktrace", b"Traceback"),
    ]


def test_every_held_record_gets_its_letter_once() -> None:
    """A window that failed as a whole becomes one letter per record, shares of one record count once."""
    made = dead_letter_messages(failure(FailureKind.ARRANGE, record(1), record(2), record(1)), NOW)

    assert [dict(each.headers)["__connect.errors.offset"] for each in made] == [b"1", b"2"]


def test_a_failure_without_records_is_still_told() -> None:
    """The fact is never lost."""
    made = letter(failure(FailureKind.HOOK))

    assert (made.key, made.value) == (None, None)
    assert dict(made.headers)["__connect.errors.stage"] == b"decode"


def test_headers_of_an_earlier_letter_are_replaced() -> None:
    """A record that fails again and again does not grow."""
    first = letter(failure(FailureKind.DECODE, record(headers=[("own", b"1")])))
    again = letter(failure(FailureKind.DECODE, record(headers=first.headers), error="other"))

    names = [name for name, _ in again.headers]
    assert len(names) == len(set(names))
    assert dict(again.headers)["own"] == b"1"
    assert dict(again.headers)["__connect.errors.exception.message"] == b"other"


def test_a_record_with_a_name_of_its_own_has_it_in_a_header() -> None:
    """Each letter the name of its own record; a name of an earlier letter is replaced, and left out without one."""
    records = (record(1), record(2))
    made = dead_letter_messages(failure(FailureKind.ARRANGE, *records, labels=("order 1", "order 2")), 0.0)
    assert [dict(each.headers)["drakkar.label"] for each in made] == [b"order 1", b"order 2"]
    again = letter(failure(FailureKind.DECODE, record(headers=made[0].headers)))
    assert "drakkar.label" not in dict(again.headers)
    told = letter(delivery(KafkaPayload(data=1), labels=("order 7",)))
    assert dict(told.headers)["drakkar.label"] == b"order 7"


def test_long_texts_are_cut_at_a_whole_character() -> None:
    """Stack traces and messages take at most 8 KiB each, and stay valid UTF-8."""
    made = letter(failure(FailureKind.DECODE, record(), error="x" + "ß" * 9000, stacktrace="y" * 9000))

    assert len((dict(made.headers)["__connect.errors.exception.message"] or b"").decode()) == 1 + 4095
    assert dict(made.headers)["__connect.errors.exception.stacktrace"] == b"y" * 8192


def told(error: ExecutorError, **more: Any) -> dict[str, Any]:
    """The header about the task of a failed one's letter."""
    made = letter(failure(FailureKind.TASK, record(), task=error, task_id=error.task.task_id), **more)
    assert dict(made.headers)["drakkar.task_id"] == error.task.task_id.encode()
    return dict(json.loads(dict(made.headers)["drakkar.task"] or b""))


def test_a_failed_task_is_told_in_a_header() -> None:
    """Enough to run the program again by hand, with the end of what it complained about."""
    task = ExecutorTask(task_id="t-1", source_offsets=[7], args=["-n", "x"], stdin="in", labels={"of": "a"})
    error = ExecutorError(
        task=task,
        kind="signal",
        signal=9,
        exit_code=-9,
        stdout="half",
        stderr="a" * 9000 + "last words",
        attempt=3,
        duration_seconds=0.12345,
        executor="oneshot",
        command=["/usr/bin/rg", "-n", "x"],
    )
    header = told(error)
    stderr = header.pop("stderr")
    assert len(stderr) == 8192
    assert stderr.endswith("last words")
    assert header == {
        "task_id": "t-1",
        "parent_task_id": None,
        "executor": "oneshot",
        "program": "/usr/bin/rg",
        "command": ["/usr/bin/rg", "-n", "x"],
        "binary_path": None,
        "args": ["-n", "x"],
        "stdin": "in",
        "stdin_bytes": 2,
        "stdin_truncated": False,
        "labels": {"of": "a"},
        "kind": "signal",
        "error": "signal 9",
        "exit_code": -9,
        "signal": 9,
        "attempt": 3,
        "duration_s": 0.123,
        "stdout": "half",
        "stdout_truncated": False,
        "stderr_truncated": True,
    }


@pytest.mark.parametrize(
    ("stdin", "kept"),
    [
        (b"\xff" * 70000, {"base64": "/" * 87381 + "w=="}),
        (b"\x00\xfe", {"base64": "AP4="}),
        ("ä" * 40000, "ä" * 32768),
        ("xä" * 30000, "xä" * 21845 + "x"),
        (None, None),
    ],
    ids=["binary", "short-binary", "text", "text-cut-inside-a-character", "none"],
)
def test_a_tasks_stdin_is_bounded_and_may_be_binary(stdin: str | bytes | None, kept: object) -> None:
    """64 KiB of it are kept, of a text whole characters; bytes that are no text become base64; a flag tells."""
    header = told(ExecutorError(task=ExecutorTask(task_id="t", source_offsets=[], stdin=stdin)))
    raw = stdin.encode() if isinstance(stdin, str) else stdin
    assert header["stdin"] == kept
    assert header["stdin_bytes"] == (raw if raw is None else len(raw))
    assert header["stdin_truncated"] is (raw is not None and len(raw) > 65536)


def test_a_letter_that_is_too_large_still_tells_how_the_task_ended() -> None:
    """What would not fit is the task's work; its error is kept."""
    task = ExecutorTask(task_id="t", source_offsets=[], args=["x" * 70000], stdin="much", binary_path="/bin/rg")
    error = ExecutorError(task=task, exit_code=3, stderr="no", command=["/bin/rg", "x" * 70000])
    assert told(error)["args"] is None
    smallest = told(error, max_value_bytes=0)
    assert (smallest["program"], smallest["exit_code"], smallest["stderr"]) == ("/bin/rg", 3, "no")
    assert smallest.keys() & {"args", "command", "stdin", "stdout"} == set()


def test_d35_a_failed_delivery_is_py_drakkars_object() -> None:
    """The whole payload as a JSON string, its data included, and what became of it."""
    made = letter(delivery(KafkaPayload(data=Body(a=1), key=b"k", sink="results")))

    text = '{"sink":"results","key":"k","data":{"a":1,"raw":null},"headers":null,"partition":null,"timestamp":null}'
    assert body(made) == {
        "original_payloads": [text],
        "sink_name": "results",
        "sink_type": "kafka",
        "error": "no JSON",
        "timestamp": NOW,
        "partition": 2,
        "attempt_count": 5,
    }
    assert made.key == b"k"
    assert dict(made.headers)["__connect.errors.offset"] == b"7"


@pytest.mark.parametrize(
    "payload", [KafkaPayload(data=1), FilePayload(path="a", data=1), SqlitePayload(table="t", data=1)]
)
def test_a_payload_without_a_key_takes_the_records(payload: Any) -> None:
    """So letters of one entity stay together."""
    assert letter(delivery(payload)).key == b"\x00key"


def test_a_text_key_becomes_bytes() -> None:
    """As the sink itself would send it."""
    assert letter(delivery(KafkaPayload(data=1, key="ä"))).key == "ä".encode()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (Body(a=1, raw=[b"text"]), {"a": 1, "raw": ["text"]}),
        (Body(a=1, raw=b"\xff"), {"a": 1, "raw": {"base64": "/w=="}}),
        (Row(1, b"\xff"), {"a": 1, "raw": {"base64": "/w=="}}),
        ({"x": [Row(1), Body(a=2)]}, {"x": [{"a": 1, "raw": ""}, {"a": 2, "raw": None}]}),
        ({3: (None, True, 1.5)}, {"3": [None, True, 1.5]}),
        (b"\xff", {"base64": "/w=="}),
        (b"text", "text"),
        ("lone \ud800", "lone \\ud800"),
        (dt.date(2024, 2, 3), "2024-02-03"),
    ],
)
def test_data_of_every_kind_survives(data: Any, expected: Any) -> None:
    """Models, structs, plain values and bytes; what is no text becomes base64."""
    assert payload_of(letter(delivery(KafkaPayload(data=data))))["data"] == expected


def test_data_without_a_json_form_is_told_as_text() -> None:
    """Payloads that can't be encoded are dead letters for that very reason."""
    assert "object object" in payload_of(letter(delivery(KafkaPayload(data=object()))))["data"]
    cycle: list[Any] = []
    cycle.append(cycle)
    assert "KafkaPayload" in body(letter(delivery(KafkaPayload(data=cycle))))["original_payloads"][0]


def test_a_cut_record_says_so() -> None:
    """The value is cut, key and headers stay, and the header has the whole size."""
    made = letter(failure(FailureKind.DECODE, record(value=b"x" * 100, headers=[("own", b"1")])), max_value_bytes=10)

    assert (made.key, made.value) == (b"\x00key", b"x" * 10)
    assert dict(made.headers)["own"] == b"1"
    assert dict(made.headers)["drakkar.truncated"] == b"100"


def test_a_cut_delivery_is_still_json() -> None:
    """Only the payload's text is cut, however much it needs escaping."""
    made = letter(delivery(KafkaPayload(data={"text": '"\\' * 500})), max_value_bytes=400)

    assert len(body(made)["original_payloads"][0]) == 200
    assert len(made.value or b"") < 400 + 300
    assert int(dict(made.headers)["drakkar.truncated"] or b"") > 2000


@pytest.mark.parametrize("kind", [FailureKind.TASK, FailureKind.SINK])
def test_the_smallest_letter_keeps_the_fact(kind: FailureKind) -> None:
    """Without value, key and own headers it still says where it comes from and what failed."""
    task = ExecutorError(task=ExecutorTask(task_id="t", source_offsets=[]))
    big = record(value=b"v" * 9999, key=b"k" * 9999, headers=[("own", b"h" * 9999)])

    made = letter(failure(kind, big, task=task, payload=KafkaPayload(data="d" * 9999)), max_value_bytes=0)

    assert made.key is None
    assert sum(len(value or b"") for _, value in made.headers) + len(made.value or b"") < 1000
    assert dict(made.headers)["__connect.errors.offset"] == b"7"
    assert "drakkar.truncated" in dict(made.headers)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    ),
    st.integers(0, 50),
)
def test_every_payload_becomes_a_letter(data: Any, limit: int) -> None:
    """No value makes the writing of letters fail, whole or cut."""
    made = delivery(KafkaPayload(data=data))

    assert len(body(letter(made))["original_payloads"]) == 1
    assert len(body(letter(made, max_value_bytes=limit))["original_payloads"][0].encode()) <= limit // 2
