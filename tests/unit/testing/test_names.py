"""The kit's public face: what can be imported from it, and that it loads lazily."""

from __future__ import annotations

import pytest

from drakkar_flow import testing

PUBLIC = [
    "CRASH",
    "Answer",
    "FakeClock",
    "FlowHarness",
    "FlowRun",
    "Gate",
    "MemoryDeadLetters",
    "MemoryLog",
    "MemoryReader",
    "MemorySink",
    "MemorySinkSettings",
    "Outcome",
    "ScriptedExecutor",
    "Sent",
    "failed",
    "load_flow",
    "run_flow",
    "succeeded",
]


def test_the_public_names_are_pinned() -> None:
    """A name that comes or goes is a decision, not an accident."""
    assert testing.__all__ == PUBLIC
    assert dir(testing) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_is_there(name: str) -> None:
    """Always the same object."""
    assert getattr(testing, name) is getattr(testing, name)


def test_a_name_that_does_not_exist_is_refused_like_any_attribute() -> None:
    """With the words Python uses."""
    with pytest.raises(AttributeError, match=r"module 'drakkar_flow.testing' has no attribute 'Nonsense'"):
        _ = testing.Nonsense
