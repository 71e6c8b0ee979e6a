"""Size estimates of values in bytes. Pure, and cheap enough for every payload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["LARGE", "SizeSampler", "size_of_value"]

LARGE = 1024
"""Values below this many bytes count as nothing: their record's size covers them."""

_DEPTH = 4
_SMALL_IN_A_ROW = 64
_SKIPPED = 31
_TEXT = frozenset({str, bytes, bytearray})
_SMALL = frozenset({int, float, bool, type(None)})


def size_of_value(value: Any, depth: int = _DEPTH) -> int:
    """The bytes of all text and binary data in `value`.

    Mappings, sequences, sets, pydantic models, msgspec structs and other objects with attributes are searched
    four levels deep; numbers and deeper values count as nothing.

    >>> size_of_value("abc"), size_of_value([b"abc", {"k": "abcd"}]), size_of_value(7)
    (3, 7, 0)
    """
    kind = type(value)
    if kind in _TEXT:
        return len(value)
    if kind in _SMALL or not depth:
        return 0
    size = 0
    for each in _contents(value):
        kind = type(each)
        if kind in _TEXT:
            size += len(each)
        elif kind not in _SMALL:
            size += size_of_value(each, depth - 1)
    return size


def _contents(value: Any) -> Any:
    if isinstance(value, (str, bytes, bytearray, memoryview)):  # of a subclass, for example an enum's
        return (bytes(value) if isinstance(value, memoryview) else value[:],)
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    attributes = getattr(value, "__dict__", None)
    if attributes:
        return attributes.values()
    names = getattr(value, "__struct_fields__", None) or getattr(value, "__slots__", ())
    if names:
        return [getattr(value, name, None) for name in names]
    if isinstance(value, Mapping):
        return value.values()
    return ()


class SizeSampler:
    """Measures values; after 64 small values in a row only one in 32.

    >>> SizeSampler().measure("x" * 2000), SizeSampler().measure("x")
    (2000, 0)
    """

    __slots__ = ("_small", "skip")

    def __init__(self) -> None:
        self._small = 0
        self.skip = 0
        """Number of following values that count as small without measurement."""

    def measure(self, value: Any) -> int:
        """The bytes of `value`; 0 if it is small or not measured."""
        if self.skip:
            self.skip -= 1
            return 0
        size = size_of_value(value)
        if size >= LARGE:
            self._small = 0
            return size
        self._small += 1
        if self._small >= _SMALL_IN_A_ROW:
            self.skip = _SKIPPED
        return 0
