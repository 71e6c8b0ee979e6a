"""Dead letters: what a failure looks like as Kafka messages. Pure, without I/O or clock."""

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
    "Letter",
    "dead_letter_messages",
    "is_letter_header",
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
DETAIL_HEADER = "drakkar.server_detail"
"""The header with the answer of the target that refused a delivery, which may quote rows."""
TRUNCATED_HEADER = "drakkar.truncated"
"""The header of a letter that was cut: the size of what was cut, the value or the payload, in bytes."""

REPLACED_HEADER = "drakkar.replaced"
"""The header of a letter that holds the repr of something that has no JSON form: a JSON list of the places."""

REPLAY_ORIGIN = "drakkar.replay.origin"
"""The header of a record that was replayed: where it stood at first, as topic:partition:offset."""
REPLAY_COUNT = "drakkar.replay.count"
"""How often it was replayed."""
REPLAY_LETTER = "drakkar.replay.letter"
"""The letter it was last replayed for."""

MINIMAL = -1
"""The limit of a letter that is to say only what failed and where."""
_MINIMAL_TEXT_BYTES = 100
MAX_STDIN_BYTES = 64 * 1024
MAX_ARGS_BYTES = 64 * 1024
_OURS = frozenset({TASK_HEADER, TASK_ID_HEADER, LABEL_HEADER, DETAIL_HEADER, TRUNCATED_HEADER, REPLACED_HEADER})

Labels = Mapping[str, str]
"""The handler's names of records, by topic:partition:offset."""


class Letter(msgspec.Struct, frozen=True, gc=False):
    """One message for the dead letter topic."""

    value: bytes | None
    key: bytes | None
    headers: list[tuple[str, bytes | None]]


def dead_letter_messages(failure: Failure, now_s: float, max_value_bytes: int | None = None) -> list[Letter]:
    """Turn a failure into letters.

    A failed delivery becomes one letter, py-drakkar's JSON object: `original_payloads` (a list with
    the whole payload as a JSON string), `sink_name`, `sink_type`, `error`, `timestamp`, `partition`
    and `attempt_count`; its key is the payload's, or else the record's. Every other failure becomes
    one letter per held record with the record's own key, value and headers; a failed task is added
    as the header `drakkar.task`, the name that `message_label` gives a record as `drakkar.label`; what
    is about one task has its id in `drakkar.task_id`; what a sink's target answered is in
    `drakkar.server_detail`. All letters carry Kafka Connect's
    `__connect.errors.*` headers; those of an earlier letter, when a record fails again after it was
    sent back, are replaced.

    Args:
        failure: what failed; without any held record it still becomes one letter.
        now_s: the time that a delivery's letter carries, in seconds since the epoch.
        max_value_bytes: cut values to this; a letter that is cut says so in the header
            `drakkar.truncated`. With 0, keys, the record's own headers and a task's
            arguments, stdin and stdout go too; MINIMAL leaves about 1 KiB.

    It never raises: what can't be encoded is replaced by its repr, and named in the header `drakkar.replaced`.
    """
    records: list[Record | None] = list({record.label: record for record, _ in failure.tokens}.values()) or [None]
    labels = {record.label: label for (record, _), label in zip(failure.tokens, failure.labels, strict=False)}
    if failure.kind is FailureKind.SINK:
        records = records[:1]
    return [_letter(failure, record, labels, now_s, max_value_bytes) for record in records]


def letter_count(failure: Failure) -> int:
    """How many letters a failure makes."""
    if failure.kind is FailureKind.SINK:
        return 1
    return len({record.label for record, _ in failure.tokens}) or 1


def _letter(failure: Failure, record: Record | None, labels: Labels, now_s: float, limit: int | None) -> Letter:
    try:
        if failure.kind is FailureKind.SINK:
            return _delivery_letter(failure, record, labels, now_s, limit)
        return _record_letter(failure, record, labels, limit)
    except Exception as exc:  # of objects that can't even be looked at: without a letter their offset would stay
        bare = Failure(kind=failure.kind, stage=text_of(failure.stage), error=text_of(failure.error), tokens=())
        headers = _error_headers(bare, record, {}, limit)
        headers.append((REPLACED_HEADER, msgspec.json.encode([f"all but this ({type(exc).__name__})"])))
        if failure.kind is FailureKind.SINK:
            return Letter(_delivery_body(bare, record, Plain().of(repr(type(failure.payload))), now_s), None, headers)
        return Letter(None if record is None or record.is_tombstone else _bytes_of(record.value), None, headers)


def _record_letter(failure: Failure, record: Record | None, labels: Labels, limit: int | None) -> Letter:
    ours = _error_headers(failure, record, labels, limit)
    if failure.task is not None and limit != MINIMAL:
        plain = Plain()
        ours.append((TASK_HEADER, _task_json(failure.task, plain, whole=limit != 0)))
        ours += _replaced(plain)
    if record is None:
        return Letter(None, None, ours)
    value = _bytes_of(record.value)
    if limit is not None:
        ours.append((TRUNCATED_HEADER, str(len(value)).encode()))
        if limit <= 0:
            return Letter(b"", None, ours)
    own = [
        (text_of(name), None if own is None else _bytes_of(own))
        for name, own in record.headers or ()
        if not is_letter_header(text_of(name))
    ]
    key = None if record.key is None else _bytes_of(record.key)
    return Letter(None if record.is_tombstone else value[:limit], key, own + ours)


def _delivery_letter(
    failure: Failure, record: Record | None, labels: Labels, now_s: float, limit: int | None
) -> Letter:
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
    return Letter(_delivery_body(failure, record, payload, now_s, limit), key, headers)


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
    if record is not None and failure.kind is FailureKind.SINK:  # other letters have all of its headers
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
    """The task, what was run for it and how that ended; its environment is left out, for it may hold secrets."""
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
    """What a program has to be given to do the same again, and what it had said by then."""
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
    """The plain form of what is a short text, unless a handler put something else there."""
    if value is None or isinstance(value, str):
        return None if value is None else cut(value).decode()
    return cut(plain.of(value, place)).decode()


def _bounded(arguments: Any) -> Any:
    """Arguments, unless they are too long to be kept."""
    each = arguments if isinstance(arguments, list) else [arguments]
    return arguments if sum(len(utf8(text_of(one))) for one in each) <= MAX_ARGS_BYTES else None


def _end(text: str) -> str:
    """The end of what a program wrote."""
    return utf8(text)[-MAX_TEXT_BYTES:].decode(errors="ignore")


def _bytes_of(value: Any) -> bytes:
    """What a message can hold of a value that should be bytes or text."""
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else text_of(value).encode()


def is_letter_header(header: str) -> bool:
    """Whether a header says something about a letter, and is none of the record's own."""
    return header.startswith(CONNECT_PREFIX) or header in _OURS
