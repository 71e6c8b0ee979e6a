"""Joins: the pairs of two sides, whatever the order in which their records come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.joins import JoinRule, Waiting

sides = st.tuples(st.lists(st.integers(0, 50), max_size=8), st.lists(st.integers(0, 50), max_size=8))
Arrival = tuple[bool, int, bytes]


def arrivals(left: list[int], right: list[int], order: list[bool]) -> list[Arrival]:
    """The records of both sides with their times, mixed in the given order, each side in its own."""
    queues = {
        True: [(True, at, b"l%d" % n) for n, at in enumerate(left)],
        False: [(False, at, b"r%d" % n) for n, at in enumerate(right)],
    }
    mixed = [queues[is_left].pop(0) for is_left in order if queues[is_left]]
    return mixed + queues[True] + queues[False]


def joined(rule: JoinRule, came: list[Arrival]) -> tuple[list[tuple[bytes, bytes]], Waiting]:
    """The pairs that the rule makes, and what waits at the end."""
    state, pairs = Waiting(), []
    for is_left, at, value in came:
        state, partners = rule.arrive(state, at, value, is_left=is_left)
        pairs += [(value, partner) if is_left else (partner, value) for partner in partners]
    return pairs, state


@given(sides, st.lists(st.booleans(), max_size=16), st.integers(1, 20), st.integers(0, 20))
def test_each_pair_within_the_time_is_made_once(
    both: tuple[list[int], list[int]], order: list[bool], within: int, lateness: int
) -> None:
    """None is missed while each side is in order but for the lateness; one side may be far ahead of the other."""
    left, right = (_late_by_at_most(times, lateness) for times in both)
    pairs, _ = joined(JoinRule(within, lateness), arrivals(left, right, order))
    wanted = [
        (b"l%d" % n, b"r%d" % m)
        for n, one in enumerate(left)
        for m, other in enumerate(right)
        if abs(one - other) <= within
    ]
    assert sorted(pairs) == sorted(wanted)


@given(sides, st.lists(st.booleans(), max_size=16), st.integers(1, 20), st.integers(0, 20))
def test_nothing_waits_that_can_not_have_a_partner(
    both: tuple[list[int], list[int]], order: list[bool], within: int, lateness: int
) -> None:
    """A record of the other side that is later than both allow has removed it."""
    left, right = both
    _, state = joined(JoinRule(within, lateness), arrivals(left, right, order))
    for mine, other in ((state.left, right), (state.right, left)):
        assert all(at >= max(other, default=0) - within - lateness for at, _ in mine.waiting)


def _late_by_at_most(times: list[int], lateness: int) -> list[int]:
    """Times in the nearest order to the given one in which none is later than the lateness allows."""
    latest, found = 0, []
    for at in times:
        latest = max(latest, at)
        found.append(max(at, latest - lateness))
    return found
