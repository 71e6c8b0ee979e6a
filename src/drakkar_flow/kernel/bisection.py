"""Group testing by bisection: finds the bad items of a group that fails as a whole. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

__all__ = ["Bisection"]

T = TypeVar("T")


class Bisection(Generic[T]):
    """Finds the bad items of a group in which at least one is bad.

    The caller tries the items of `trial` together and reports `good` (all of them are settled) or `bad` (at least one
    is bad), until `trial` is empty. An item is `found` only after it was bad alone, and no item is tried again after
    a good trial. One bad item in n costs log2(n) + 2 trials, n bad items slightly more than n, the worst mixture about
    three times n.

    >>> search = Bisection(range(8))
    >>> while search.trial:
    ...     search.bad() if 5 in search.trial else search.good()
    >>> search.found
    [5]
    """

    __slots__ = ("_misses", "_suspects", "_untried", "found")

    def __init__(self, items: Sequence[T]) -> None:
        self._suspects = list(items)  # at least one of these is bad, unless there are none
        self._untried: list[T] = []
        self._misses = 0
        self.found: list[T] = []
        """The bad items, in the order they were found."""

    @property
    def trial(self) -> list[T]:
        """The items to try together next; empty when the search is over."""
        if self._suspects:
            return self._suspects[: max(1, len(self._suspects) // 2)]
        # If bad items are frequent, smaller portions of the rest find them sooner.
        return self._untried[: max(1, len(self._untried) >> self._misses)]

    @property
    def open(self) -> list[T]:
        """The items that are neither settled nor found, in their order."""
        return self._suspects + self._untried

    def good(self) -> None:
        """Note that every item of the trial is settled."""
        size = len(self.trial)
        if self._suspects:
            del self._suspects[:size]
        else:
            del self._untried[:size]
            self._misses = 0

    def bad(self, among: Sequence[T] | None = None) -> None:
        """Note that the trial has at least one bad item, which is one of `among`; the others are settled then."""
        trial = self.trial
        suspects = trial if among is None else list(among)
        if self._suspects:
            self._untried = self._suspects[len(trial) :] + self._untried
        else:
            self._misses += 1
            self._untried = self._untried[len(trial) :]
        self._suspects = suspects
        if len(trial) == 1:
            self.found += suspects
            self._suspects = []
