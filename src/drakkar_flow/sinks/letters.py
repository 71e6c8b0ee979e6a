"""Dead letters: what a failure looks like as Kafka messages. Pure, without I/O or clock."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import BaseModel

from drakkar_flow.model.codec import encode
from drakkar_flow.model.outcome import Failure, FailureKind
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError

__all__ = [
    "CONNECT_PREFIX",
    "LABEL_HEADER",
    "TASK_HEADER",
    "TASK_ID_HEADER",
    "TRUNCATED_HEADER",
    "Letter",
    "dead_letter_messages",
    "letter_count",
]

CONNECT_PREFIX = "__connect.errors."
"""Kafka Connect's names for the headers that say where a letter comes from and what failed."""
TASK_HEADER = "drakkar.task"
"""The header with the failed task as JSON."""
TASK_ID_HEADER = "drakkar.task_id"
"""The header with the id of the task that failed, or whose result could not be taken or delivered."""
LABEL_HEADER = "drakkar.label"
"""The header with the name that the handler's `message_label` gives the record."""
TRUNCATED_HEADER = "drakkar.truncated"
"""The header of a letter that was cut: the size of what was cut, the value or the payload, in bytes."""

MAX_TEXT_BYTES = 8 * 1024
"""The most that an error, a stack trace or a program's stderr takes."""
MAX_STDIN_BYTES = 64 * 1024
MAX_ARGS_BYTES = 64 * 1024

Labels = Mapping[str, str]
"""The handler's names of records, by topic:partition:offset."""


class Letter(msgspec.Struct, frozen=True, gc=False):
    """One message for the dead letter topic."""

    value: bytes | None
    key: bytes | None
    headers: list[tuple[str, bytes]]


def dead_letter_messages(failure: Failure, now_s: float, max_value_bytes: int | None = None) -> list[Letter]:
    """Turn a failure into letters.

    A failed delivery becomes one letter, py-drakkar's JSON object: `original_payloads` (a list with
    the whole payload as a JSON string), `sink_name`, `sink_type`, `error`, `timestamp`, `partition`
    and `attempt_count`; its key is the payload's, or else the record's. Every other failure becomes
    one letter per held record with the record's own key, value and headers; a failed task is added
    as the header `drakkar.task`, the name that `message_label` gives a record as `drakkar.label`; what
    is about one task has its id in `drakkar.task_id`. All letters carry Kafka Connect's
    `__connect.errors.*` headers; those of an earlier letter, when a record fails again after it was
    sent back, are replaced.

    Args:
        failure: what failed; without any held record it still becomes one letter.
        now_s: the time that a delivery's letter carries, in seconds since the epoch.
        max_value_bytes: cut values to this; a letter that is cut says so in the header
            `drakkar.truncated`. With 0, keys, the record's own headers and a task's
            arguments, stdin and stdout go too.
    """
    records: list[Record | None] = list({record.label: record for record, _ in failure.holds}.values()) or [None]
    labels = {record.label: label for (record, _), label in zip(failure.holds, failure.labels, strict=False)}
    if failure.kind is FailureKind.SINK:
        return [_delivery_letter(failure, records[0], labels, now_s, max_value_bytes)]
    return [_record_letter(failure, record, labels, max_value_bytes) for record in records]


def letter_count(failure: Failure) -> int:
    """How many letters a failure makes."""
    if failure.kind is FailureKind.SINK:
        return 1
    return len({record.label for record, _ in failure.holds}) or 1


def _record_letter(failure: Failure, record: Record | None, labels: Labels, limit: int | None) -> Letter:
    ours = _error_headers(failure, record, labels)
    if failure.task is not None:
        ours.append((TASK_HEADER, _task_json(failure.task, whole=limit != 0)))
    if record is None:
        return Letter(None, None, ours)
    if limit is not None:
        ours.append((TRUNCATED_HEADER, str(len(record.value)).encode()))
    if limit == 0:
        return Letter(b"", None, ours)
    own = [each for each in record.headers or () if not _is_ours(each[0])]
    return Letter(None if record.is_tombstone else record.value[:limit], record.key, own + ours)


def _delivery_letter(
    failure: Failure, record: Record | None, labels: Labels, now_s: float, limit: int | None
) -> Letter:
    payload = _payload_json(failure.payload)
    headers = _error_headers(failure, record, labels)
    if limit is not None:
        size = len(payload.encode())
        # A JSON string inside JSON escapes quotes and backslashes, which at most doubles it.
        payload = _cut(payload, limit // 2).decode()
        headers.append((TRUNCATED_HEADER, str(size).encode()))
    body = {
        "original_payloads": [payload],
        "sink_name": failure.sink_name,
        "sink_type": failure.sink_type,
        "error": _cut(failure.error).decode(),
        "timestamp": now_s,
        "partition": None if record is None else record.partition,
        "attempt_count": failure.attempts,
    }
    return Letter(msgspec.json.encode(body), None if limit == 0 else _delivery_key(failure.payload, record), headers)


def _delivery_key(payload: Any, record: Record | None) -> bytes | None:
    key = getattr(payload, "key", None)
    if isinstance(key, bytes):
        return key
    if isinstance(key, str):
        return _utf8(key)
    return None if record is None else record.key


def _error_headers(failure: Failure, record: Record | None, labels: Labels) -> list[tuple[str, bytes]]:
    origin: list[tuple[str, object]] = []
    if record is not None:
        origin = [("topic", record.topic), ("partition", record.partition), ("offset", record.offset)]
    what = [
        ("stage", failure.stage),
        ("exception.class.name", failure.exception_class),
        ("exception.message", failure.error),
        ("exception.stacktrace", failure.stacktrace),
    ]
    headers = [(CONNECT_PREFIX + name, _cut(str(value))) for name, value in [*origin, *what]]
    if failure.task_id:
        headers.append((TASK_ID_HEADER, _cut(failure.task_id)))
    if record is not None and record.label in labels:
        headers.append((LABEL_HEADER, _cut(labels[record.label])))
    return headers


def _task_json(error: ExecutorError, *, whole: bool) -> bytes:
    """The task, what was run for it and how that ended; its environment is left out, for it may hold secrets."""
    task = error.task
    told: dict[str, Any] = {
        "task_id": _plain(task.task_id),
        "parent_task_id": _plain(task.parent_task_id),
        "executor": error.executor,
        "program": _plain(error.command[0]) if error.command else None,
        "kind": error.kind,
        "error": _cut(error.reason).decode(),
        "exit_code": error.exit_code,
        "signal": error.signal,
        "attempt": error.attempt,
        "duration_s": round(error.duration_seconds, 3),
        "stderr": _end(error.stderr),
        "stderr_truncated": error.stderr_truncated or len(_utf8(error.stderr)) > MAX_TEXT_BYTES,
    }
    return msgspec.json.encode(told | _work(error) if whole else told)


def _work(error: ExecutorError) -> dict[str, Any]:
    """What a program has to be given to do the same again, and what it had said by then."""
    task = error.task
    stdin = _utf8(task.stdin) if isinstance(task.stdin, str) else task.stdin
    sizes = [sum(map(len, map(_utf8, args))) for args in (task.args, error.command)]
    return {
        "binary_path": _plain(task.binary_path),
        "args": _plain(task.args) if sizes[0] <= MAX_ARGS_BYTES else None,
        "command": _plain(error.command) if sizes[1] <= MAX_ARGS_BYTES else None,
        "stdin": None if stdin is None else _text_or_base64(stdin, MAX_STDIN_BYTES),
        "stdin_bytes": None if stdin is None else len(stdin),
        "stdin_truncated": stdin is not None and len(stdin) > MAX_STDIN_BYTES,
        "labels": _plain(task.labels),
        "stdout": _end(error.stdout),
        "stdout_truncated": error.stdout_truncated or len(_utf8(error.stdout)) > MAX_TEXT_BYTES,
    }


def _end(text: str) -> str:
    """The end of what a program wrote."""
    return _utf8(text)[-MAX_TEXT_BYTES:].decode(errors="ignore")


def _payload_json(payload: Any) -> str:
    """The whole payload as JSON; what has no JSON form, the very reason why some fail, as its text."""
    try:
        return msgspec.json.encode(_plain(payload)).decode()
    except Exception:  # a payload's own serializers may raise anything, and the letter must be written
        return _utf8(repr(payload)).decode()


def _plain(value: Any) -> Any:
    """What JSON can hold of `value`, with nothing lost: bytes that are no text become `{"base64": ...}`."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _utf8(value).decode()
    if isinstance(value, bytes | bytearray | memoryview):
        return _text_or_base64(bytes(value))
    if isinstance(value, BaseModel):
        return _plain_model(value)
    if isinstance(value, msgspec.Struct):
        return _plain(msgspec.structs.asdict(value))
    if isinstance(value, Mapping):
        return {_utf8(str(name)).decode(): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    try:
        return msgspec.to_builtins(value)
    except (TypeError, ValueError):
        return _utf8(repr(value)).decode()


def _plain_model(model: BaseModel) -> Any:
    try:
        return msgspec.json.decode(encode(model))
    except ValueError:  # bytes that are not UTF-8, or fields without a JSON form
        return _plain(model.model_dump(warnings=False))


def _text_or_base64(raw: bytes, limit: int | None = None) -> str | dict[str, str]:
    """Text as it is, other bytes as base64; at most `limit` bytes, of a text whole characters."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw[:limit]).decode()}
    return text if limit is None else _cut(text, limit).decode()


def _cut(text: str, limit: int = MAX_TEXT_BYTES) -> bytes:
    """UTF-8 of at most `limit` bytes that ends with a whole character."""
    return _utf8(text)[:limit].decode(errors="ignore").encode()


def _utf8(text: str) -> bytes:
    return text.encode(errors="backslashreplace")


def _is_ours(header: str) -> bool:
    return header.startswith(CONNECT_PREFIX) or header in (TASK_HEADER, TASK_ID_HEADER, LABEL_HEADER, TRUNCATED_HEADER)
