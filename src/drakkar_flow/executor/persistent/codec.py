"""Codec of a child: the interface of all protocols. Pure: bytes in, answers out, no I/O or clock.

A codec belongs to one child, because it keeps the bytes of partial answers. Requests have
ids that count up from 1 in the order they are encoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec

from drakkar_flow.model.task import ExecutorTask

__all__ = ["Answer", "Codec", "LineBuffer", "ProtocolError", "UnencodableTask", "shown"]

_SHOWN = 60


class ProtocolError(Exception):
    """A child violated the protocol; the text has the violation."""


class UnencodableTask(Exception):
    """A task can't be encoded by a codec; the text has the reason."""


class Answer(msgspec.Struct, gc=False):
    """Answer of a child; `progress` means that it still works on the request."""

    id: int
    exit_code: int = 0
    stdout: str = ""
    stderr: str = ""
    progress: bool = False
    raw_stdout: bytes | None = None
    """The bytes of stdout, if they are not UTF-8."""


class Codec(Protocol):
    """Turns tasks into bytes and bytes into answers."""

    def encode(self, request_id: int, task: ExecutorTask, timeout_s: float) -> bytes:
        """The bytes of a request; ids count up from 1.

        Raises:
            UnencodableTask: if the task can't be encoded; nothing was sent then, and the id is free.
        """
        ...

    def cancel(self, request_id: int) -> bytes | None:
        """The bytes that cancel a request; None if the protocol has no cancellation."""
        ...

    def feed(self, data: bytes) -> Iterator[Answer]:
        """The answers that `data` completes, in order.

        Raises:
            ProtocolError: at the violation, after the answers before it.
        """
        ...

    @property
    def held(self) -> int:
        """Number of bytes of a partial answer."""
        ...


class LineBuffer:
    """Splits a stream into lines, in pieces of any size; the work is linear in its bytes.

    >>> lines = LineBuffer(limit=100)
    >>> [*lines.feed(b"one\\ntw")], lines.held, [*lines.feed(b"o\\n")], lines.held
    ([b'one'], 2, [b'two'], 0)
    """

    __slots__ = ("_limit", "_parts", "held")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self.held = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that `data` completes, without their ends; must be consumed before the next call.

        Raises:
            ProtocolError: at a line, complete or not, that is longer than `limit`.
        """
        lines = data.split(b"\n")
        if len(lines) > 1 and self._parts:
            lines[0] = b"".join([*self._parts, lines[0]])
            self._parts.clear()
            self.held = 0
        rest = lines.pop()
        if rest:
            self._parts.append(rest)
            self.held += len(rest)
        limit = self._limit
        for line in lines:
            if len(line) > limit:
                raise ProtocolError(f"a line of {len(line)} bytes, {limit} are allowed")
            yield line
        if self.held > limit:
            raise ProtocolError(f"a line of more than {limit} bytes; it begins with {shown(self._parts[0])}")


def shown(data: bytes) -> str:
    """The beginning of a child's output, for a message.

    >>> shown(b"{oops")
    "b'{oops'"
    """
    return repr(data if len(data) <= _SHOWN else data[:_SHOWN] + b"...")
