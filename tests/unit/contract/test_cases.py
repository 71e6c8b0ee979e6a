"""Each acceptance case of py-drakkar, D-1 to D-46, has a test that bears its number: `test_d7_...`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
LAST = 46
NOT_HERE = {
    40: "dead letters are not replayed by a command yet",
}
"""The cases without a test, each with its reason."""
NAME = re.compile(r"^ *(?:async )?def test_d0?(\d+)_\w+", re.MULTILINE)


def numbers() -> Iterator[int]:
    """The numbers that names of tests bear."""
    for file in TESTS.rglob("*.py"):
        yield from map(int, NAME.findall(file.read_text()))


pytestmark = pytest.mark.xdist_group("cases")


@pytest.fixture(scope="module")
def covered() -> set[int]:
    """The cases that have a test."""
    return set(numbers())


@pytest.mark.parametrize("case", sorted(set(range(1, LAST + 1)) - NOT_HERE.keys()))
def test_every_case_has_a_test(covered: set[int], case: int) -> None:
    """Whatever file it is in."""
    assert case in covered


def test_what_has_no_test_is_said_with_a_reason(covered: set[int]) -> None:
    """And the list holds nothing that has one, or that does not exist."""
    assert covered.isdisjoint(NOT_HERE)
    assert covered | NOT_HERE.keys() == set(range(1, LAST + 1))
