"""Codecs for filters without protocol (`cat`, `jq`, `grep --line-buffered`): a line of stdin per task."""

from __future__ import annotations

from collections.abc import Iterator

from drakkar_flow.executor.persistent.codec import Answer, LineBuffer, ProtocolError, UnencodableTask, shown
from drakkar_flow.model.task import ExecutorTask, decode_output

__all__ = ["MARKER", "LinePerTask", "LinesToMarker"]

MARKER = b"#drakkar-"
"""Prefix of the marker line that ends a task's output and that the filter must pass through; a number follows."""


_MOST_DIGITS = 20  # longer numbers are not ours, and Python refuses to parse thousands of digits


class LinePerTask:
    """Each task is a line, and each line is answered by exactly one, in the same order.

    >>> dialect = LinePerTask(limit=100)
    >>> dialect.encode(1, ExecutorTask(task_id="t", source_offsets=[], stdin="hi"), 1)
    b'hi\\n'
    >>> list(dialect.feed(b"ho\\n"))
    [Answer(id=1, exit_code=0, stdout='ho\\n', stderr='', progress=False, raw_stdout=None)]
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lines = LineBuffer(limit)
        self._answered = 0

    def encode(self, request_id: int, task: ExecutorTask, timeout_s: float) -> bytes:
        """The task's stdin, which must be one line."""
        return _line(task, self._limit)

    def cancel(self, request_id: int) -> bytes | None:
        """A filter can't be asked to give up."""
        return None

    def feed(self, data: bytes) -> Iterator[Answer]:
        """An answer for each line."""
        for line in self._lines.feed(data):
            self._answered += 1
            stdout, raw = decode_output(line + b"\n")
            yield Answer(self._answered, stdout=stdout, raw_stdout=raw)

    @property
    def held(self) -> int:
        """Bytes of an incomplete line."""
        return self._lines.held


class LinesToMarker:
    """Each task is a line and a marker line; the output before the marker, any number of lines, is the answer.

    >>> dialect = LinesToMarker(limit=100)
    >>> dialect.encode(1, ExecutorTask(task_id="t", source_offsets=[], stdin="hi"), 1)
    b'hi\\n#drakkar-1\\n'
    >>> list(dialect.feed(b"#drakkar-1\\nho\\nha\\n#drakkar-2\\n"))[1]
    Answer(id=2, exit_code=0, stdout='ho\\nha\\n', stderr='', progress=False, raw_stdout=None)
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lines = LineBuffer(limit)
        self._output: list[bytes] = []
        self._size = 0

    def encode(self, request_id: int, task: ExecutorTask, timeout_s: float) -> bytes:
        """The task's stdin, which must be one line, and the marker."""
        line = _line(task, self._limit)
        if line.startswith(MARKER):
            raise UnencodableTask(f"the task's stdin begins like a marker: {shown(line)}")
        return b"%b%b%d\n" % (line, MARKER, request_id)

    def cancel(self, request_id: int) -> bytes | None:
        """A filter can't be asked to give up."""
        return None

    def feed(self, data: bytes) -> Iterator[Answer]:
        """An answer for each marker."""
        for line in self._lines.feed(data):
            if line.startswith(MARKER):
                yield self._end(line)
                continue
            self._output.append(line)
            self._size += len(line) + 1
            if self._size > self._limit:
                raise ProtocolError(f"more than {self._limit} bytes without a marker line")

    def _end(self, marker: bytes) -> Answer:
        number = marker[len(MARKER) :]
        if not number.isdigit() or len(number) > _MOST_DIGITS:
            raise ProtocolError(f"a marker line without a number: {shown(marker)}")
        self._output.append(b"")
        stdout, raw = decode_output(b"\n".join(self._output))
        self._output.clear()
        self._size = 0
        return Answer(int(number), stdout=stdout, raw_stdout=raw)

    @property
    def held(self) -> int:
        """Bytes without a marker yet."""
        return self._size + self._lines.held


def _line(task: ExecutorTask, limit: int) -> bytes:
    stdin = task.stdin
    try:
        data = stdin.encode() if isinstance(stdin, str) else stdin or b""
    except UnicodeEncodeError as exc:
        raise UnencodableTask(f"the task's stdin is not valid text: {exc}") from exc
    if not data.endswith(b"\n"):
        data += b"\n"
    if data.find(b"\n") != len(data) - 1:
        raise UnencodableTask("the task's stdin has several lines, and a filter in lines mode takes one per task")
    if len(data) > limit + 1:
        raise UnencodableTask(
            f"the task's stdin is a line of {len(data) - 1} bytes, executor.persistent.max_frame_bytes allows {limit}"
        )
    if task.args or task.env:
        raise UnencodableTask("the task has args or env, which a filter in lines mode can't receive")
    return data
