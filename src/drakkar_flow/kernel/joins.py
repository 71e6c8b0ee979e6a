"""Join of two sides by key: the records of a key that wait for partners, and the pairs that a record makes. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

__all__ = ["Arrived", "JoinRule", "Waiting"]


class Side(msgspec.Struct, array_like=True, frozen=True):
    """Waiting records of one side as time in ms and value, and the latest time of all its records of the key."""

    waiting: tuple[tuple[int, bytes], ...] = ()
    latest_ms: int | None = None


class Waiting(msgspec.Struct, array_like=True, frozen=True):
    """State of one key of a join."""

    left: Side = Side()
    right: Side = Side()


class Arrived(NamedTuple):
    """Result of a record's arrival: the next state of its key, and the values of its partners, in arrival order."""

    state: Waiting
    partners: list[bytes]


class JoinRule(NamedTuple):
    """Rule of a join: two records are a pair if their times differ by at most `within_ms`.

    A record waits until a record of the other side comes that is later than `within_ms` and `lateness_ms` after it: as
    long as neither side of a key is out of order by more than `lateness_ms`, no pair is missed.

    >>> rule = JoinRule(within_ms=10, lateness_ms=0)
    >>> state, _ = rule.arrive(None, 100, b"order", is_left=True)
    >>> state, partners = rule.arrive(state, 110, b"payment", is_left=False)
    >>> partners, len(state.left.waiting), len(state.right.waiting)
    ([b'order'], 1, 1)
    >>> state, partners = rule.arrive(state, 111, b"late payment", is_left=False)
    >>> partners, len(state.left.waiting)
    ([], 0)
    """

    within_ms: int
    lateness_ms: int

    def arrive(self, state: Waiting | None, at_ms: int, value: bytes, *, is_left: bool) -> Arrived:
        """Pair a record with all that wait for it, and let it wait itself."""
        state = state or Waiting()
        mine, other = (state.left, state.right) if is_left else (state.right, state.left)
        partners = [partner for time_ms, partner in other.waiting if abs(time_ms - at_ms) <= self.within_ms]
        latest_ms = at_ms if mine.latest_ms is None else max(mine.latest_ms, at_ms)
        gone_ms = latest_ms - self.within_ms - self.lateness_ms
        other = Side(tuple(each for each in other.waiting if each[0] >= gone_ms), other.latest_ms)
        waiting = mine.waiting
        if other.latest_ms is None or at_ms >= other.latest_ms - self.within_ms - self.lateness_ms:
            waiting = (*waiting, (at_ms, value))
        mine = Side(waiting, latest_ms)
        return Arrived(Waiting(mine, other) if is_left else Waiting(other, mine), partners)
