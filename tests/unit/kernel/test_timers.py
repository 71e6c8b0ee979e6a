"""Timers against a model that looks at all of them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.timers import Timers

KEYS = st.sampled_from("abc")
SETS = st.tuples(KEYS, st.one_of(st.none(), st.integers(0, 50)))


@given(st.dictionaries(KEYS, st.integers(0, 50)), st.lists(st.one_of(SETS, st.integers(0, 60)), max_size=40))
def test_each_timer_is_due_once_at_its_newest_time(initial: dict[Any, int], actions: list[Any]) -> None:
    """In the order of times; a cancelled or moved one is not due at its earlier time."""
    timers, model = Timers(initial), dict(initial)
    for action in actions:
        if isinstance(action, int):
            due = sorted((at, key) for key, at in model.items() if at <= action)
            assert timers.due(action) == [key for _, key in due]
            for _, key in due:
                del model[key]
        else:
            key, at = action
            timers.set(key, at)
            model.pop(key, None)
            if at is not None:
                model[key] = at


def test_a_timer_that_is_moved_again_and_again_is_due_once() -> None:
    """Its earlier entries are removed in passing."""
    timers = Timers({})
    for at in range(1_000):
        timers.set("a", at)
        assert timers.due(at - 1) == []
    assert timers.due(999) == ["a"]
