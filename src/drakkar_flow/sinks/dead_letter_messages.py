"""Dead letter messages: Kafka messages of a failure. Pure, without I/O or clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from drakkar_flow.model.outcome import Failure, FailureKind
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError
from drakkar_flow.sinks.plain import MAX_TEXT_BYTES, Plain, cut, text_of, text_or_base64, utf8

__all__ = [
    "CONNECT_PREFIX",
    "DETAIL_HEADER",
    "LABEL_HEADER",
    "MINIMAL",
    "REPLACED_HEADER",
    "REPLAY_COUNT",
    "REPLAY_LETTER",
    "REPLAY_ORIGIN",
    "TASK_HEADER",
    "TASK_ID_HEADER",
    "TRUNCATED_HEADER",
    "DeadLetterMessage",
    "dead_letter_count",
    "dead_letter_messages",
    "is_dead_letter_header",
]

CONNECT_PREFIX = "__connect.errors."
"""Kafka Connect's names for the headers that hold the origin of a dead letter and its error."""
TASK_HEADER = "drakkar.task"
"""Header with the failed task as JSON."""
TASK_ID_HEADER = "drakkar.task_id"
"""Header with the id of the task that failed, or whose result could not be accepted or delivered."""
LABEL_HEADER = "drakkar.label"
"""Header with the name that the handler's `message_label` gives the record."""
DETAIL_HEADER = "drakkar.server_detail"
"""Header with the answer of the target that refused a delivery; it may quote rows."""
TRUNCATED_HEADER = "drakkar.truncated"
"""Header of a dead letter that was cut: the size of the value or payload before the cut, in bytes."""

REPLACED_HEADER = "drakkar.replaced"
"""Header of a dead letter with reprs of values without a JSON form: a JSON list of their places."""

REPLAY_ORIGIN = "drakkar.replay.origin"
"""Header of a replayed record: its original place as topic:partition:offset."""
REPLAY_COUNT = "drakkar.replay.count"
"""Header with the number of times the record was replayed."""
REPLAY_LETTER = "drakkar.replay.letter"
"""Header with the dead letter from which the record was last replayed."""

MINIMAL = -1
"""Limit of a dead letter that holds only the error and its origin."""
_MINIMAL_TEXT_BYTES = 100
MAX_STDIN_BYTES = 64 * 1024
MAX_ARGS_BYTES = 64 * 1024
_OURS = frozenset({TASK_HEADER, TASK_ID_HEADER, LABEL_HEADER, DETAIL_HEADER, TRUNCATED_HEADER, REPLACED_HEADER})

Labels = Mapping[str, str]
"""Handler's names of records, by topic:partition:offset."""


class DeadLetterMessage(msgspec.Struct, frozen=True, gc=False):
    """One message for the dead letter topic."""

    value: bytes | None
    key: bytes | None
    headers: list[tuple[str, bytes | None]]


def dead_letter_messages(failure: Failure, now_s: float, max_value_bytes: int | None = None) -> list[DeadLetterMessage]:
    """Turn a failure into dead letters. Never raises.

    A failed delivery becomes one dead letter, py-drakkar's JSON object: `original_payloads` (a list with the whole
    payload as a JSON string), `sink_name`, `sink_type`, `error`, `timestamp`, `partition` and `attempt_count`. Its key
    is the payload's, or else the record's.

    Every other failure becomes one dead letter per held record, with the record's key, value and headers. More headers
    are added:

    - `drakkar.task`: the failed task.
    - `drakkar.task_id`: the id of the task that the failure concerns.
    - `drakkar.label`: the name that `message_label` gives the record.
    - `drakkar.server_detail`: the answer of a sink's target.
    - `__connect.errors.*`: Kafka Connect's headers, on all dead letters. They replace those of an earlier dead letter
      if a record fails again after a replay.
    - `drakkar.replaced`: the places of values that can't be encoded and are replaced by their repr.

    Args:
        failure: the failure; without any held record it still becomes one dead letter.
        now_s: the timestamp of a delivery's dead letter, in seconds since the epoch.
        max_value_bytes: cut values to this size; a dead letter that is cut has the header
            `drakkar.truncated`. With 0, keys, the record's own headers and a task's
            arguments, stdin and stdout go too; MINIMAL leaves about 1 KiB.

    Values that can't be encoded are replaced by their repr.
    """
    records: list[Record | None] = list({record.label: record for record, _ in failure.tokens}.values()) or [None]
    labels = {record.label: label for (record, _), label in zip(failure.tokens, failure.labels, strict=False)}
    if failure.kind is FailureKind.SINK:
        records = records[:1]
    return [_letter(failure, record, labels, now_s, max_value_bytes) for record in records]


def dead_letter_count(failure: Failure) -> int:
    """Return the number of dead letters of a failure."""
    if failure.kind is FailureKind.SINK:
        return 1
    return len({record.label for record, _ in failure.tokens}) or 1


def _letter(
    failure: Failure, record: Record | None, labels: Labels, now_s: float, limit: int | None
) -> DeadLetterMessage:
    try:
        if failure.kind is FailureKind.SINK:
            return _delivery_letter(failure, record, labels, now_s, limit)
        return _record_letter(failure, record, labels, limit)
    except Exception as exc:  # of objects that can't be inspected: without a dead letter their offset would stay
        bare = Failure(kind=failure.kind, stage=text_of(failure.stage), error=text_of(failure.error), tokens=())
        headers = _error_headers(bare, record, {}, limit)
        headers.append((REPLACED_HEADER, msgspec.json.encode([f"all but this ({type(exc).__name__})"])))
        if failure.kind is FailureKind.SINK:
            return DeadLetterMessage(
                _delivery_body(bare, record, Plain().of(repr(type(failure.payload))), now_s), None, headers
            )
        return DeadLetterMessage(
            None if record is None or record.is_tombstone else _bytes_of(record.value), None, headers
        )


def _record_letter(failure: Failure, record: Record | None, labels: Labels, limit: int | None) -> DeadLetterMessage:
    ours = _error_headers(failure, record, labels, limit)
    if failure.task is not None and limit != MINIMAL:
        plain = Plain()
        ours.append((TASK_HEADER, _task_json(failure.task, plain, whole=limit != 0)))
        ours += _replaced(plain)
    if record is None:
        return DeadLetterMessage(None, None, ours)
    value = _bytes_of(record.value)
    if limit is not None:
        ours.append((TRUNCATED_HEADER, str(len(value)).encode()))
        if limit <= 0:
            return DeadLetterMessage(b"", None, ours)
    own = [
        (text_of(name), None if own is None else _bytes_of(own))
        for name, own in record.headers or ()
        if not is_dead_letter_header(text_of(name))
    ]
    key = None if record.key is None else _bytes_of(record.key)
    return DeadLetterMessage(None if record.is_tombstone else value[:limit], key, own + ours)


def _delivery_letter(
    failure: Failure, record: Record | None, labels: Labels, now_s: float, limit: int | None
) -> DeadLetterMessage:
    plain = Plain()
    payload = msgspec.json.encode(plain.of(failure.payload)).decode()
    if plain.circular:
        payload = text_of(repr(failure.payload))
    headers = _error_headers(failure, record, labels, limit)
    if limit is not None:
        size = len(payload.encode())
        # A JSON string inside JSON escapes quotes and backslashes, which at most doubles it.
        payload = cut(payload, max(0, limit) // 2).decode()
        headers.append((TRUNCATED_HEADER, str(size).encode()))
    if limit != MINIMAL:
        headers += _replaced(plain)
    key = None if limit is not None and limit <= 0 else _delivery_key(failure.payload, record)
    return DeadLetterMessage(_delivery_body(failure, record, payload, now_s, limit), key, headers)


def _delivery_body(
    failure: Failure, record: Record | None, payload: str, now_s: float, limit: int | None = None
) -> bytes:
    body = {
        "original_payloads": [payload],
        "sink_name": failure.sink_name,
        "sink_type": failure.sink_type,
        "error": cut(failure.error, _text_limit(limit)).decode(),
        "timestamp": now_s,
        "partition": None if record is None else record.partition,
        "attempt_count": failure.attempts,
    }
    return msgspec.json.encode(body)


def _delivery_key(payload: Any, record: Record | None) -> bytes | None:
    key = getattr(payload, "key", None)
    if isinstance(key, bytes | str):
        return _bytes_of(key)
    return None if record is None or record.key is None else _bytes_of(record.key)


def _error_headers(
    failure: Failure, record: Record | None, labels: Labels, limit: int | None
) -> list[tuple[str, bytes | None]]:
    origin: list[tuple[str, object]] = []
    if record is not None:
        origin = [("topic", record.topic), ("partition", record.partition), ("offset", record.offset)]
    what = [
        ("stage", failure.stage),
        ("exception.class.name", failure.exception_class),
        ("exception.message", failure.error),
    ]
    if limit != MINIMAL:
        what.append(("exception.stacktrace", failure.stacktrace))
    most = _text_limit(limit)
    headers: list[tuple[str, bytes | None]] = [
        (CONNECT_PREFIX + name, cut(value, most if name in _TEXTS else MAX_TEXT_BYTES))
        for name, value in [*origin, *what]
    ]
    if task_id := text_of(failure.task_id):
        headers.append((TASK_ID_HEADER, cut(task_id, most)))
    if record is not None and failure.kind is FailureKind.SINK:  # other dead letters have all of its headers
        history = (REPLAY_ORIGIN, REPLAY_COUNT)
        headers += [(name, _bytes_of(value)) for name, value in record.headers or () if name in history]
    if record is not None and record.label in labels:
        headers.append((LABEL_HEADER, cut(labels[record.label], most)))
    if failure.detail:
        headers.append((DETAIL_HEADER, cut(failure.detail, most)))
    return headers


_TEXTS = ("stage", "exception.class.name", "exception.message", "exception.stacktrace")


def _text_limit(limit: int | None) -> int:
    return _MINIMAL_TEXT_BYTES if limit == MINIMAL else MAX_TEXT_BYTES


def _replaced(plain: Plain) -> list[tuple[str, bytes | None]]:
    return [(REPLACED_HEADER, msgspec.json.encode(plain.replaced))] if plain.replaced else []


def _task_json(error: ExecutorError, plain: Plain, *, whole: bool) -> bytes:
    """Return a task, its program and its result; the environment is left out because it may hold secrets."""
    task = error.task
    stderr = text_of(error.stderr)
    described: dict[str, Any] = {
        "task_id": _short(task.task_id, plain, "task_id"),
        "parent_task_id": _short(task.parent_task_id, plain, "parent_task_id"),
        "executor": error.executor,
        "program": cut(error.command[0]).decode() if error.command else None,
        "kind": error.kind,
        "error": cut(error.reason).decode(),
        "exit_code": error.exit_code,
        "signal": error.signal,
        "attempt": error.attempt,
        "duration_s": round(error.duration_seconds, 3),
        "stderr": _end(stderr),
        "stderr_truncated": error.stderr_truncated or len(utf8(stderr)) > MAX_TEXT_BYTES,
    }
    return msgspec.json.encode(described | _work(error, plain) if whole else described)


def _work(error: ExecutorError, plain: Plain) -> dict[str, Any]:
    """Return the input that a program needs to run the task again, and its output so far."""
    task = error.task
    stdin = None if task.stdin is None else _bytes_of(task.stdin)
    stdout = text_of(error.stdout)
    return {
        "binary_path": plain.of(task.binary_path, "binary_path"),
        "args": _bounded(plain.of(task.args, "args")),
        "command": _bounded(plain.of(error.command, "command")),
        "stdin": None if stdin is None else text_or_base64(stdin, MAX_STDIN_BYTES),
        "stdin_bytes": None if stdin is None else len(stdin),
        "stdin_truncated": stdin is not None and len(stdin) > MAX_STDIN_BYTES,
        "labels": plain.of(task.labels, "labels"),
        "stdout": _end(stdout),
        "stdout_truncated": error.stdout_truncated or len(utf8(stdout)) > MAX_TEXT_BYTES,
    }


def _short(value: Any, plain: Plain, place: str) -> Any:
    """Return the plain form of a short text, or of the value that a handler put there."""
    if value is None or isinstance(value, str):
        return None if value is None else cut(value).decode()
    return cut(plain.of(value, place)).decode()


def _bounded(arguments: Any) -> Any:
    """Return arguments, unless they are too long to be kept."""
    each = arguments if isinstance(arguments, list) else [arguments]
    return arguments if sum(len(utf8(text_of(one))) for one in each) <= MAX_ARGS_BYTES else None


def _end(text: str) -> str:
    """Return the end of a program's output."""
    return utf8(text)[-MAX_TEXT_BYTES:].decode(errors="ignore")


def _bytes_of(value: Any) -> bytes:
    """Return the bytes for a value that should be bytes or text."""
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else text_of(value).encode()


def is_dead_letter_header(header: str) -> bool:
    """Return True if a header describes a dead letter, and is none of the record's headers."""
    return header.startswith(CONNECT_PREFIX) or header in _OURS
