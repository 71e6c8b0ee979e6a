"""The queue of waiting tasks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.executor.priority import PriorityQueue, Ticket

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 3)),
        st.tuples(st.just("pop"), st.just(0)),
        st.tuples(st.just("cancel"), st.integers(0, 60)),
    ),
    max_size=120,
)


@given(ACTIONS)
def test_the_queue_behaves_like_a_sorted_list(actions: list[tuple[str, int]]) -> None:
    """Under any mix of calls the next item is the one of least priority that came first and still waits."""
    queue = PriorityQueue[int]()
    tickets: list[Ticket] = []
    model: list[tuple[int, int]] = []
    for action, value in actions:
        if action == "push":
            model.append((value, len(tickets)))
            tickets.append(queue.push(value, len(tickets)))
        elif action == "pop":
            expected = min(model) if model else None
            if expected is not None:
                model.remove(expected)
            assert queue.pop() == (expected[1] if expected else None)
        elif value < len(tickets):
            waiting = [entry for entry in model if entry[1] == value]
            assert queue.cancel(tickets[value]) == bool(waiting)
            model = [entry for entry in model if entry[1] != value]
        assert len(queue) == len(model)


def test_cancelled_tickets_do_not_pile_up() -> None:
    """A queue whose items are all cancelled before their turn stays small."""
    queue = PriorityQueue[str]()
    queue.push(0, "stays")
    for _ in range(1000):
        queue.cancel(queue.push(1, "goes"))
    assert len(queue._heap) < 50
    assert queue.pop() == "stays"


def test_a_priority_that_cannot_be_compared_leaves_the_queue_as_it_was() -> None:
    """Priorities of mixed types are refused without harming those that wait."""
    queue = PriorityQueue[str]()
    for number in range(5):
        queue.push(number, str(number))
    with pytest.raises(TypeError):
        queue.push("high", "x")
    assert [queue.pop() for _ in range(6)] == ["0", "1", "2", "3", "4", None]


def test_any_ordered_values_are_priorities() -> None:
    """Tuples order as tuples do."""
    queue = PriorityQueue[str]()
    queue.push((1, "b"), "second")
    queue.push((1, "a"), "first")
    assert (queue.pop(), queue.pop()) == ("first", "second")
