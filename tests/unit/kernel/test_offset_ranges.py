"""Spans: a set of offsets, and its text."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from drakkar_flow.kernel.offset_ranges import OffsetRanges

offsets = st.integers(min_value=0, max_value=60) | st.integers(min_value=2**31 - 20, max_value=2**31 + 20)
pairs = st.tuples(offsets, st.integers(min_value=0, max_value=12)).map(lambda pair: (pair[0], pair[0] + pair[1]))
some_spans = st.lists(pairs, max_size=30)


def members(ranges: list[tuple[int, int]]) -> set[int]:
    """Every offset of some spans."""
    return {offset for start, stop in ranges for offset in range(start, stop)}


@given(some_spans)
def test_it_holds_what_was_added_and_nothing_else(added: list[tuple[int, int]]) -> None:
    """Its spans are in order, disjoint, not empty, and never touch."""
    ranges = OffsetRanges(added)
    assert members(list(ranges)) == members(added)
    flat = [edge for span in ranges for edge in span]
    assert flat == sorted(set(flat))
    assert len(ranges) == len(list(ranges))
    assert ranges.stop == max(members(added), default=-1) + 1


@given(some_spans, offsets)
def test_membership_and_the_end_of_a_run_agree_with_a_plain_set(added: list[tuple[int, int]], offset: int) -> None:
    """`end_of` is the first offset from there on that is missing."""
    ranges, plain = OffsetRanges(added), members(added)
    assert (offset in ranges) == (offset in plain)
    end = offset
    while end in plain:
        end += 1
    assert ranges.end_of(offset) == end


@given(some_spans, offsets)
def test_cutting_removes_what_is_below(added: list[tuple[int, int]], offset: int) -> None:
    """What starts below and ends above is kept from there on."""
    ranges = OffsetRanges(added)
    ranges.cut(offset)
    assert members(list(ranges)) == {one for one in members(added) if one >= offset}


@given(some_spans, offsets)
def test_text_brings_back_what_is_above_its_base(added: list[tuple[int, int]], base: int) -> None:
    """What lies below the committed offset needs no word."""
    text = OffsetRanges(added).encode(base, 3072)
    assert members(list(OffsetRanges.decode(text, base))) == {one for one in members(added) if one >= base}


@given(some_spans, st.integers(min_value=0, max_value=60))
def test_text_never_exceeds_its_limit_and_loses_the_highest_first(added: list[tuple[int, int]], limit: int) -> None:
    """A shorter text is a smaller set: some finished work is done again, nothing is skipped wrongly."""
    ranges = OffsetRanges(added)
    text = ranges.encode(0, limit)
    assert len(text) <= limit
    kept = list(OffsetRanges.decode(text, 0))
    assert kept == list(ranges)[: len(kept)]


@pytest.mark.parametrize("text", ["", "whatever", "d2:", "d2:%%%", "d2:gA==", "d1:AgE=", "d2:AgEé"])
def test_foreign_or_damaged_text_is_an_empty_set(text: str) -> None:
    """Another tool may have committed, with metadata of its own."""
    assert list(OffsetRanges.decode(text, 5)) == []


@given(st.text(max_size=40))
def test_no_text_makes_it_fail(text: str) -> None:
    """Metadata comes from outside."""
    OffsetRanges.decode(f"d2:{text}", 0)


@given(some_spans, offsets, st.integers(min_value=1, max_value=2**32 - 1))
def test_text_of_another_offset_is_an_empty_set(added: list[tuple[int, int]], base: int, away: int) -> None:
    """Mirrors copy commits with their metadata to the offsets of another cluster, where it tells of other records."""
    text = OffsetRanges(added).encode(base, 3072)
    assert list(OffsetRanges.decode(text, base + away)) == []


@given(some_spans, st.data())
def test_a_changed_character_makes_it_an_empty_set(added: list[tuple[int, int]], data: st.DataObject) -> None:
    """What is damaged costs work; it never makes a record count as finished."""
    text = OffsetRanges(added).encode(0, 3072)
    assume(text)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("ABCXYZabcxyz0189+/=:").filter(lambda one: one != text[at]))
    changed = text[:at] + other + text[at + 1 :]
    assert members(list(OffsetRanges.decode(changed, 0))) in (set(), members(list(OffsetRanges.decode(text, 0))))


@given(some_spans, st.data())
def test_text_that_was_cut_short_is_an_empty_set(added: list[tuple[int, int]], data: st.DataObject) -> None:
    """Brokers don't do that, tools may."""
    text = OffsetRanges(added).encode(0, 3072)
    assume(text)
    assert list(OffsetRanges.decode(text[: data.draw(st.integers(0, len(text) - 1))], 0)) == []


def test_a_thousand_alternating_offsets_fit_into_three_kib() -> None:
    """The worst case of short runs: two bytes each."""
    ranges = OffsetRanges([(offset, offset + 1) for offset in range(100, 2100, 2)])
    text = ranges.encode(99, 3072)
    assert list(OffsetRanges.decode(text, 99)) == list(ranges)
