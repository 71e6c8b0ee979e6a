"""Offset ranges: a set of mostly consecutive offsets, and its text for the metadata of a commit."""

from __future__ import annotations

import base64
import binascii
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

__all__ = ["OffsetRanges"]

_FORMAT = "d2:"  # prefix of the second version of this format; the first had no checksum
_SUM_BYTES = 4


class OffsetRanges:
    """Disjoint half-open spans `[start, stop)` of offsets, in order; spans that touch are one.

    >>> ranges = OffsetRanges([(5, 7), (9, 10)])
    >>> ranges.add(7, 9)
    >>> list(ranges), 8 in ranges, ranges.end_of(6)
    ([(5, 10)], True, 10)
    """

    __slots__ = ("_starts", "_stops")

    MARK = _FORMAT
    """Beginning of every text of `encode`; alone it is the text of an empty set."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in ranges:
            self.add(start, stop)

    def __len__(self) -> int:
        """Number of spans."""
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._stops, strict=True)

    def __contains__(self, offset: int) -> bool:
        index = bisect_right(self._starts, offset) - 1
        return index >= 0 and offset < self._stops[index]

    @property
    def stop(self) -> int:
        """The offset after the last one of the set; 0 when it is empty."""
        return self._stops[-1] if self._stops else 0

    def add(self, start: int, stop: int) -> None:
        """Add `[start, stop)`, joined with touching and overlapping spans."""
        if start >= stop:
            return
        starts, stops = self._starts, self._stops
        first = bisect_left(stops, start)
        last = bisect_right(starts, stop)
        if first < last:
            start, stop = min(start, starts[first]), max(stop, stops[last - 1])
        starts[first:last] = [start]
        stops[first:last] = [stop]

    def end_of(self, offset: int) -> int:
        """The first offset from `offset` on that is not in the set."""
        index = bisect_right(self._starts, offset) - 1
        return max(offset, self._stops[index]) if index >= 0 else offset

    def cut(self, offset: int) -> None:
        """Remove everything below `offset`."""
        gone = bisect_right(self._stops, offset)
        del self._starts[:gone], self._stops[:gone]
        if self._starts and self._starts[0] < offset:
            self._starts[0] = offset

    def encode(self, base: int, limit: int) -> str:
        """Write the spans above `base` as text of at most `limit` characters; the highest are left out if necessary.

        It is a run-length code: the lengths of gaps and spans in turn, from `base` upwards, each
        as a little-endian base-128 number, after a checksum of them and of `base`, in base64.
        The text is empty if no span is left.
        """
        room = (limit - len(_FORMAT)) // 4 * 3 - _SUM_BYTES
        coded = bytearray()
        at = base
        for start, stop in self:
            if stop <= base:
                continue
            pair = _number(max(start, base) - at) + _number(stop - max(start, base))
            if len(coded) + len(pair) > room:
                break
            coded += pair
            at = stop
        return _FORMAT + base64.b64encode(_checksum(coded, base) + coded).decode() if coded else ""

    @classmethod
    def decode(cls, text: str, base: int) -> OffsetRanges:
        """Read the text of `encode`; foreign or damaged text, or one of another `base`, is an empty set.

        A tool that copies a group's commits to another cluster copies the text, but offsets differ there.
        """
        ranges = cls()
        if not text.startswith(_FORMAT):
            return ranges
        try:
            coded = base64.b64decode(text.removeprefix(_FORMAT), validate=True)
            if coded[:_SUM_BYTES] != _checksum(coded[_SUM_BYTES:], base):
                return ranges
            lengths = list(_numbers(coded[_SUM_BYTES:]))
        except (ValueError, binascii.Error):
            return ranges
        at = base
        for gap, length in zip(lengths[::2], lengths[1::2], strict=False):
            ranges.add(at + gap, at + gap + length)
            at += gap + length
        return ranges


def _checksum(coded: bytes | bytearray, base: int) -> bytes:
    return zlib.crc32(coded, base & 0xFFFFFFFF).to_bytes(_SUM_BYTES)


def _number(value: int) -> bytes:
    coded = bytearray()
    while value > 0x7F:
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    coded.append(value)
    return bytes(coded)


def _numbers(coded: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in coded:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0
    if shift:
        raise ValueError("the last number is not complete")
