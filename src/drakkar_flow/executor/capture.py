"""Captured output of a program: kept up to a limit, cut between characters."""

from __future__ import annotations

from drakkar_flow.model.task import decode_output

__all__ = ["Capture", "cut_text"]


def cut_text(data: bytes, limit: int) -> bytes:
    """Cut UTF-8 `data` to at most `limit` bytes without splitting its last character.

    Bytes that are not UTF-8 are cut at the limit.

    >>> cut_text("aé".encode(), 2)
    b'a'
    """
    if len(data) <= limit:
        return data
    for back in range(min(4, limit + 1)):
        if data[limit - back] & 0xC0 != 0x80:  # no continuation byte: a character starts here
            return data[: limit - back]
    return data[:limit]


class Capture:
    """Collects output until `limit` bytes are held (0 = no limit); the rest is counted out and flagged.

    >>> kept = Capture(4); kept.add(b"abc"); kept.add(b"def"); kept.decoded(), kept.truncated
    (('abcd', None), True)
    """

    __slots__ = ("_chunks", "_limit", "_size", "truncated")

    def __init__(self, limit: int) -> None:
        self._chunks: list[bytes] = []
        self._limit = limit
        self._size = 0
        self.truncated = False

    def add(self, data: bytes) -> None:
        """Add the next bytes; after truncation they are only counted."""
        if self.truncated:
            return
        self._chunks.append(data)
        self._size += len(data)
        if 0 < self._limit < self._size:
            self._chunks = [cut_text(b"".join(self._chunks), self._limit)]
            self.truncated = True

    def decoded(self) -> tuple[str, bytes | None]:
        """Return the kept output as text, and the bytes if they are not UTF-8."""
        return decode_output(b"".join(self._chunks))
