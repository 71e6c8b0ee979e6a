"""The framings of the protocol `drakkar-worker`: JSON lines, and headers with a raw body."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from drakkar_flow.executor.persistent.codec import Answer, Codec, LineBuffer, ProtocolError, UnencodableTask, shown
from drakkar_flow.model.task import ExecutorTask, decode_output

__all__ = ["Framing", "JsonLines", "LengthPrefixed", "dialect_for"]

Framing = Literal["json-lines", "length-prefixed"]

_PREFIX_BYTES = 8  # two unsigned 32-bit integers, big endian: the header's length and the body's


class _Request(msgspec.Struct, omit_defaults=True, tag_field="type", tag="task"):
    id: int
    args: list[str]
    stdin: str | None = None
    stdin_base64: bytes | None = None
    env: dict[str, str] = {}
    labels: dict[str, str] = {}
    metadata: dict[str, Any] = {}
    timeout_s: float | None = None


class _Cancel(msgspec.Struct, tag_field="type", tag="cancel"):
    id: int


class _Reply(msgspec.Struct):
    id: int
    type: Literal["result", "progress"] = "result"
    exit_code: int = 0
    stdout: str = ""
    stdout_base64: bytes | None = None
    stderr: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Reply).decode


def dialect_for(framing: Framing, limit: int, *, can_cancel: bool) -> Codec:
    """Return the codec of the negotiated framing; no frame is longer than `limit` bytes."""
    kind: type[JsonLines | LengthPrefixed] = JsonLines if framing == "json-lines" else LengthPrefixed
    return kind(limit, can_cancel=can_cancel)


class JsonLines:
    """One JSON object per line; bytes that are not text are sent as base64.

    >>> dialect = JsonLines(limit=1000)
    >>> dialect.encode(1, ExecutorTask(task_id="t", source_offsets=[], stdin="hi"), 2.5)
    b'{"type":"task","id":1,"args":[],"stdin":"hi","timeout_s":2.5}\\n'
    >>> list(dialect.feed(b'{"id":1,"stdout":"ho"}\\n'))
    [Answer(id=1, exit_code=0, stdout='ho', stderr='', progress=False, raw_stdout=None)]
    """

    def __init__(self, limit: int, *, can_cancel: bool = False) -> None:
        self._limit = limit
        self._can_cancel = can_cancel
        self._lines = LineBuffer(limit)

    def encode(self, request_id: int, task: ExecutorTask, timeout_s: float) -> bytes:
        """The task as a line."""
        request = _request(request_id, task, timeout_s)
        stdin = task.stdin
        if isinstance(stdin, bytes):
            try:
                request.stdin = stdin.decode()
            except UnicodeDecodeError:
                request.stdin_base64 = stdin
        else:
            request.stdin = stdin
        line = _json(request)
        return _within(line + b"\n", len(line), self._limit)

    def cancel(self, request_id: int) -> bytes | None:
        """The line that cancels a request."""
        return _encode(_Cancel(request_id)) + b"\n" if self._can_cancel else None

    def feed(self, data: bytes) -> Iterator[Answer]:
        """The answers of complete lines."""
        for line in self._lines.feed(data):
            yield _answer(_parse(line), None)

    @property
    def held(self) -> int:
        """Bytes of an incomplete line."""
        return self._lines.held


class LengthPrefixed:
    """Two lengths, a JSON header, and a raw body: the task's stdin, the answer's stdout.

    >>> dialect = LengthPrefixed(limit=1000)
    >>> dialect.encode(1, ExecutorTask(task_id="t", source_offsets=[], stdin="hi"), 2.5)[8:]
    b'{"type":"task","id":1,"args":[],"timeout_s":2.5}hi'
    >>> list(dialect.feed(bytes([0, 0, 0, 8, 0, 0, 0, 2]) + b'{"id":1}ho'))
    [Answer(id=1, exit_code=0, stdout='ho', stderr='', progress=False, raw_stdout=None)]
    """

    def __init__(self, limit: int, *, can_cancel: bool = False) -> None:
        self._limit = limit
        self._can_cancel = can_cancel
        self._buffer = bytearray()

    def encode(self, request_id: int, task: ExecutorTask, timeout_s: float) -> bytes:
        """The task as a header and its stdin as the body."""
        body = _stdin_bytes(task)
        frame = _frame(_json(_request(request_id, task, timeout_s)), body)
        return _within(frame, len(frame) - _PREFIX_BYTES, self._limit)

    def cancel(self, request_id: int) -> bytes | None:
        """The frame that cancels a request."""
        return _frame(_encode(_Cancel(request_id)), b"") if self._can_cancel else None

    def feed(self, data: bytes) -> Iterator[Answer]:
        """The answers of complete frames."""
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= _PREFIX_BYTES:
                head = int.from_bytes(buffer[start : start + 4])
                body = int.from_bytes(buffer[start + 4 : start + _PREFIX_BYTES])
                if head + body > self._limit:
                    raise ProtocolError(
                        f"a frame of {head + body} bytes, {self._limit} are allowed; it begins with "
                        + shown(bytes(buffer[start : start + 80]))
                    )
                middle = start + _PREFIX_BYTES + head
                if len(buffer) < middle + body:
                    break
                reply = _parse(bytes(buffer[start + _PREFIX_BYTES : middle]))
                start, text = middle + body, buffer[middle : middle + body]
                yield _answer(reply, bytes(text) if text else None)
        finally:
            del buffer[:start]

    @property
    def held(self) -> int:
        """Bytes of an incomplete frame."""
        return len(self._buffer)


def _request(request_id: int, task: ExecutorTask, timeout_s: float) -> _Request:
    return _Request(
        request_id,
        task.args,
        env=task.env,
        labels=task.labels,
        metadata=task.metadata,
        timeout_s=timeout_s,
    )


def _stdin_bytes(task: ExecutorTask) -> bytes:
    stdin = task.stdin
    try:
        return stdin.encode() if isinstance(stdin, str) else stdin or b""
    except UnicodeEncodeError as exc:
        raise UnencodableTask(f"the task's stdin is not valid text: {exc}") from exc


def _json(request: _Request) -> bytes:
    try:
        return _encode(request)
    except UnicodeEncodeError as exc:
        wrong = f"{_not_text(request)} is not UTF-8: {exc}"
        raise UnencodableTask(f"the task can't be written as JSON: {wrong}") from exc
    except Exception as exc:  # metadata of an unknown type, or with a cycle
        raise UnencodableTask(f"the task can't be written as JSON: {exc}") from exc


def _not_text(request: _Request) -> str:
    """Return the part of a request that is not UTF-8, for example a file's name."""
    for index, arg in enumerate(request.args):
        if not _is_text(arg):
            return f"args[{index}]"
    wrong = (f"env[{key!r}]" for key, value in request.env.items() if not (_is_text(key) and _is_text(value)))
    return next(wrong, "a text of the task")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _within(frame: bytes, size: int, limit: int) -> bytes:
    if size > limit:
        allowed = f"executor.persistent.max_frame_bytes allows {limit}"
        raise UnencodableTask(f"the task needs a frame of {size} bytes, {allowed}")
    return frame


def _frame(header: bytes, body: bytes) -> bytes:
    return len(header).to_bytes(4) + len(body).to_bytes(4) + header + body


def _parse(raw: bytes) -> _Reply:
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ProtocolError(f"no valid answer ({exc}): {shown(raw)}") from exc


def _answer(reply: _Reply, body: bytes | None) -> Answer:
    stdout, raw = reply.stdout, None
    if (data := reply.stdout_base64 if reply.stdout_base64 is not None else body) is not None:
        stdout, raw = decode_output(data)
    return Answer(reply.id, reply.exit_code, stdout, reply.stderr, reply.type == "progress", raw)
