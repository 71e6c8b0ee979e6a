"""Exponential backoff with full jitter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between 0 and a ceiling that grows by `factor` from `initial_s` up to `max_s`.

    The jitter is full, so attempts that failed together are not repeated together.

    >>> backoff = Backoff(initial_s=0.5, max_s=10.0)
    >>> [backoff.ceiling_s(attempt) for attempt in (1, 2, 3, 10, 10**6)]
    [0.5, 1.0, 2.0, 10.0, 10.0]
    >>> backoff.delay_s(3, random=lambda: 0.25)
    0.5

    Raises:
        ValueError: unless `0 < initial_s <= max_s` and `factor >= 1`, all of them finite.
    """

    initial_s: float
    max_s: float
    factor: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.initial_s <= self.max_s < float("inf"):
            raise ValueError(f"backoff needs 0 < initial_s <= max_s, got {self.initial_s} and {self.max_s}")
        if not 1 <= self.factor < float("inf"):
            raise ValueError(f"backoff needs a factor of 1 or more, got {self.factor}")

    def ceiling_s(self, attempt: int) -> float:
        """The longest pause after `attempt` failed attempts; never less than after fewer of them.

        The first failed attempt is 1; less counts as 1.
        """
        try:
            return min(self.initial_s * self.factor ** max(attempt - 1, 0), self.max_s)
        except OverflowError:
            return self.max_s

    def delay_s(self, attempt: int, random: Callable[[], float]) -> float:
        """The pause after `attempt` failed attempts; `random` gives numbers in [0, 1)."""
        return self.ceiling_s(attempt) * random()
