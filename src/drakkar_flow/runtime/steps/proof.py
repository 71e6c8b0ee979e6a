"""Proof: the steps that are known to work; a step that works refutes the suspicion of a mistake."""

from __future__ import annotations

from collections.abc import Callable, Hashable

__all__ = ["Proof"]


class Proof:
    """Counts a step's first success, and its first one after each failure.

    A step checks `if step not in proof.works` before it calls `add`, so that a success costs no call. Thread-safe.
    """

    __slots__ = ("_marks", "_succeeded", "works")

    def __init__(self, succeeded: Callable[[Hashable], None] = lambda _step: None) -> None:
        self._succeeded = succeeded
        self._marks: dict[Hashable, int] = {}
        self.works: set[Hashable] = set()

    def add(self, step: Hashable) -> None:
        """Note that a step has succeeded."""
        self._marks[step] = self.mark(step) + 1
        self.works.add(step)
        self._succeeded(step)

    def doubt(self, step: Hashable) -> int:
        """Note that a step has failed; returns its mark, which the next success raises."""
        self.works.discard(step)
        return self.mark(step)

    def mark(self, step: Hashable) -> int:
        """Return the number of noted successes of a step."""
        return self._marks.get(step, 0)
