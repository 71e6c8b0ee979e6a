"""The cache of answers about types."""

from __future__ import annotations

from drakkar_flow.model.type_cache import TypeCache


def test_each_type_is_asked_about_once() -> None:
    asked: list[type] = []

    def size(kind: type) -> int:
        asked.append(kind)
        return len(kind.__name__)

    cache = TypeCache(size)
    assert [cache[int], cache[str], cache[int]] == [3, 3, 3]
    assert asked == [int, str]


def test_a_program_that_makes_a_type_per_record_does_not_fill_the_memory() -> None:
    cache = TypeCache(lambda kind: kind.__name__)
    for number in range(2_500):
        assert cache[type(f"Row{number}", (), {})] == f"Row{number}"
    assert len(cache) <= 1_000
