"""Turns: one at a time per key, first come first served, nothing lost, never more than the limit."""

from __future__ import annotations

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from drakkar_flow.kernel.ordering import KeyedQueue

Item = tuple[int, frozenset[str]]

KEYS = st.frozensets(st.sampled_from("abcd"), max_size=3)


class TaskOrder(RuleBasedStateMachine):
    """Items come, are given out and leave in any order; looked at after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.came: list[Item] = []
        self.given: list[Item] = []
        self.out: list[Item] = []

    @initialize(limit=st.sampled_from([1, 2, 5, float("inf")]))
    def open(self, limit: float) -> None:
        """Any limit."""
        self.limit = limit
        self.turns = KeyedQueue[Item](limit)

    @rule(keys=KEYS)
    def enter(self, keys: frozenset[str]) -> None:
        """One more gets in line."""
        item = (len(self.came), keys)
        self.came.append(item)
        self.turns.put(item, keys)

    @precondition(lambda self: self.limit == float("inf"))
    @rule(keys=KEYS)
    def take(self, keys: frozenset[str]) -> None:
        """One that comes is out at once, or not at all: it would have to wait."""
        free = self.turns.is_free(keys)
        assert self.turns.acquire(keys) is free
        if free:
            item = (len(self.came), keys)
            self.came.append(item)
            self.given.append(item)
            self.out.append(item)

    @rule()
    def next(self) -> None:
        """Whoever may go is given out."""
        item = self.turns.next()
        if item is not None:
            assert item not in self.given
            self.given.append(item)
            self.out.append(item)
        elif len(self.out) < self.limit:
            assert not self._may_go()

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """One that is out is over."""
        item = data.draw(st.sampled_from(self.out))
        self.out.remove(item)
        assert self.turns.release(item[1]) is bool(self._may_go())

    def _may_go(self) -> list[Item]:
        """By the definition: all that came earlier and share a key are over."""
        unfinished = [item for item in self.came if item not in self.given or item in self.out]
        return [
            item
            for index, item in enumerate(unfinished)
            if item not in self.out and not any(item[1] & earlier[1] for earlier in unfinished[:index])
        ]

    @invariant()
    def one_at_a_time(self) -> None:
        """No two that are out share a key, and no more are out than may be."""
        if self.came:
            assert max(Counter(key for _, keys in self.out for key in keys).values(), default=0) <= 1
            assert len(self.out) <= self.limit

    @invariant()
    def first_come_first_served(self) -> None:
        """By key, items are given out in the order they came, without a gap."""
        for key in "abcd":
            came = [item for item in self.came if key in item[1]]
            given = [item for item in self.given if key in item[1]]
            assert given == came[: len(given)]

    @invariant()
    def free_means_at_once(self) -> None:
        """A key is free exactly when nobody has it or waits for it."""
        if self.came:
            busy = {key for item in self.came if item not in self.given or item in self.out for key in item[1]}
            assert {key for key in "abcd" if self.turns.is_free([key])} == set("abcd") - busy

    def teardown(self) -> None:
        """Whoever came gets a turn in the end, and nothing is remembered."""
        if not hasattr(self, "turns"):
            return
        while self.out or self._may_go():
            self.next()
            if self.out:
                item = self.out.pop()
                self.turns.release(item[1])
        assert sorted(number for number, _ in self.given) == list(range(len(self.came)))
        assert len(self.turns) == 0


TestTurns = TaskOrder.TestCase
