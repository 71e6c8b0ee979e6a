"""Hybrid clock, last write wins and LRU bookkeeping against their rules."""

from __future__ import annotations

from collections import OrderedDict
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.cache_entries import CacheEntry, wins
from drakkar_flow.kernel.hybrid_clock import MAX_AHEAD_MS, HybridClock, latest_stamp, milliseconds_of, stamp_at
from drakkar_flow.kernel.lru import Lru

TIMES = st.lists(st.integers(1_000_000, 1_000_000 + MAX_AHEAD_MS), min_size=1, max_size=30)
ENTRIES = st.builds(
    CacheEntry,
    key=st.just("k"),
    data=st.none() | st.binary(max_size=2),
    scope=st.just("global"),
    stamp=st.integers(0, 6),
    origin=st.sampled_from(["a", "b", "c"]),
)


@given(TIMES)
def test_stamps_never_repeat_and_never_go_back_whatever_the_wall_clock_does(times: list[int]) -> None:
    clock = HybridClock()
    stamps = [clock.tick(now) for now in times]
    assert stamps == sorted(set(stamps))
    assert all(milliseconds_of(stamp) >= now for stamp, now in zip(stamps, times, strict=True))


@given(TIMES, st.integers(0, MAX_AHEAD_MS))
def test_a_write_after_a_seen_one_is_newer_though_the_clock_is_behind(times: list[int], ahead: int) -> None:
    clock = HybridClock()
    seen = stamp_at(max(times) + ahead)
    if clock.observe(seen, max(times)):
        assert clock.tick(max(times)) > seen


def test_a_stamp_too_far_ahead_is_refused_and_leaves_the_clock_as_it_is() -> None:
    clock = HybridClock()
    assert not clock.observe(stamp_at(1000 + MAX_AHEAD_MS + 1), 1000)
    assert milliseconds_of(clock.tick(1000)) == 1000


def test_a_clock_that_was_an_hour_ahead_comes_back() -> None:
    """Its own stamps of that time count as too far ahead, so new ones win."""
    clock = HybridClock(stamp_at(3_600_000))
    stamp = clock.tick(1000)
    assert milliseconds_of(stamp) == 1000
    old = CacheEntry("k", b"1", "local", stamp_at(3_600_000), "w")
    assert wins(old._replace(stamp=stamp), old, latest_stamp(1000))


@given(st.lists(ENTRIES, min_size=2, max_size=4, unique_by=lambda entry: (entry.stamp, entry.origin)))
def test_any_order_of_arrival_ends_with_the_same_entry(entries: list[CacheEntry]) -> None:
    """Also with entries of a wrong clock among them, here those beyond 4."""
    ends = set()
    for order in permutations(entries):
        kept = None
        for entry in order:
            kept = entry if wins(entry, kept, 4) else kept
        ends.add(kept)
    assert len(ends) == 1


OPERATIONS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 6), st.sampled_from(["put", "use", "discard"])))


@given(OPERATIONS, st.integers(1, 3) | st.none(), st.integers(1, 9) | st.none())
def test_lru_keeps_the_values_used_last_within_both_bounds(
    operations: list[tuple[str, int, str]], entries: int | None, size: int | None
) -> None:
    lru, model = Lru[int](entries, size), OrderedDict[str, int]()
    for key, number, what in operations:
        if what == "put":
            lru.put(key, number, number)
            model.pop(key, None)
            if size is None or number <= size:
                model[key] = number
            while len(model) > (entries or 99) or sum(model.values()) > (999 if size is None else size):
                model.popitem(last=False)
        elif what == "discard":
            assert lru.discard(key) == model.pop(key, None)
        elif key in model:
            lru.values.move_to_end(key)
            model.move_to_end(key)
        assert list(lru.values.items()) == list(model.items())
        assert lru.size == sum(model.values())
