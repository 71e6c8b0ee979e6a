"""Circuit breaker. Pure: no clock; `now` is seconds that never go back."""

from __future__ import annotations

from typing import Literal

__all__ = ["Breaker", "BreakerState"]

BreakerState = Literal["closed", "open", "half_open"]


class Breaker:
    """Opens after `threshold` failures in a row; after `cooldown_s` a single probe decides whether it closes.

    A caller gets a ticket from `admit` and returns it with the result: `succeed`, `fail`, or `release` if the attempt
    proved neither. A ticket from before the breaker opened is void. A ticket may be used more than once, by a
    long-lived resource that succeeds or fails later.

    >>> breaker = Breaker(threshold=2, cooldown_s=30)
    >>> for _ in range(2): breaker.fail(breaker.admit(now=0.0), now=0.0)
    >>> breaker.state, breaker.admit(now=29.0)
    ('open', None)
    >>> probe = breaker.admit(now=30.0)
    >>> breaker.state, breaker.admit(now=30.0)
    ('half_open', None)
    >>> breaker.succeed(probe)
    >>> breaker.state
    'closed'

    Raises:
        ValueError: unless `threshold >= 1` and `cooldown_s >= 0`.
    """

    __slots__ = ("_cooldown_s", "_era", "_opened_at", "_probing", "_threshold", "failures")

    def __init__(self, threshold: int, cooldown_s: float) -> None:
        if threshold < 1 or not cooldown_s >= 0:
            raise ValueError(f"a breaker needs threshold >= 1 and cooldown_s >= 0, got {threshold} and {cooldown_s}")
        self._threshold = threshold
        self._cooldown_s = cooldown_s
        self._era = 0
        self._opened_at: float | None = None
        self._probing = False
        self.failures = 0
        """Number of failures in a row; not bounded by the threshold."""

    @property
    def state(self) -> BreakerState:
        """Closed, open (also when a probe would be admitted), or half_open during a probe."""
        if self._opened_at is None:
            return "closed"
        return "half_open" if self._probing else "open"

    @property
    def retry_at(self) -> float | None:
        """Earliest time of the next probe; None unless open."""
        return None if self._opened_at is None or self._probing else self._opened_at + self._cooldown_s

    def admit(self, now: float) -> int | None:
        """Return a ticket for an attempt, or None while no attempt is allowed."""
        if self._opened_at is None:
            return self._era
        if self._probing or now < self._opened_at + self._cooldown_s:
            return None
        self._probing = True
        self._era += 1
        return self._era

    def succeed(self, ticket: int | None) -> None:
        """Record a success: resets the count; a probe's success closes the breaker."""
        if ticket == self._era:
            self.failures = 0
            self._opened_at = None
            self._probing = False

    def fail(self, ticket: int | None, now: float) -> None:
        """Record a failure: the last of a row opens the breaker, a probe's opens it for another cool-down."""
        if ticket != self._era:
            return
        self.failures += 1
        if self._probing or self.failures >= self._threshold:
            self._opened_at = now
            self._probing = False
            self._era += 1

    def release(self, ticket: int | None) -> None:
        """Record an attempt without result; after a probe the next caller gets the probe."""
        if ticket == self._era and self._probing:
            self._probing = False
            self._era += 1
