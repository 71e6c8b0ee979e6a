"""The rows in which a partition's position, finished offsets and state are stored."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.kernel.partition_row import (
    PartitionRow,
    RowError,
    decode_rows,
    decode_shard,
    encode_rows,
    encode_shard,
)

ranges = st.lists(st.tuples(st.integers(0, 2**60), st.integers(1, 50))).map(
    lambda found: OffsetRanges((start, start + length) for start, length in found)
)
state = st.dictionaries(st.tuples(st.text(max_size=5), st.text()), st.binary())
shares = st.dictionaries(st.integers(0, 2**62), st.sets(st.integers(0, 1000)))
rows = st.dictionaries(
    st.tuples(st.text(), st.integers(0, 10_000)), st.builds(PartitionRow, st.integers(0, 2**62), ranges, state, shares)
)


@given(rows)
def test_rows_read_as_they_were_written(given: dict[tuple[str, int], PartitionRow]) -> None:
    """Position, ranges, state and shares, of any partitions."""
    assert _plain(decode_rows(encode_rows(given))) == _plain(given)


def test_a_row_of_the_first_version_has_no_shares() -> None:
    """Stores of earlier releases are read."""
    written = msgspec.msgpack.encode((1, [("in", 3, 7, [(9, 11)], {"count": {"anna": b"1"}})]))
    assert _plain(decode_rows(written)) == {("in", 3): (7, [(9, 11)], {("count", "anna"): b"1"}, {})}


@given(state)
def test_a_shard_reads_as_it_was_written(given: dict[tuple[str, str], bytes]) -> None:
    """All its steps and keys."""
    assert decode_shard(encode_shard(given)) == given


@given(state, st.data())
def test_a_shard_that_was_cut_is_an_error(given: dict[tuple[str, str], bytes], data: st.DataObject) -> None:
    """And never another state."""
    written = encode_shard(given)
    with pytest.raises(RowError):
        decode_shard(written[: data.draw(st.integers(0, len(written) - 1))])


@given(rows, st.data())
def test_a_row_that_was_cut_is_an_error(given: dict[tuple[str, int], PartitionRow], data: st.DataObject) -> None:
    """And never another row."""
    written = encode_rows(given)
    with pytest.raises(RowError):
        decode_rows(written[: data.draw(st.integers(0, len(written) - 1))])


def test_a_row_of_a_later_version_says_so() -> None:
    """It is not read in part."""
    with pytest.raises(RowError, match=r"a row of format 3; this version reads up to 2"):
        decode_rows(b"\x92\x03\x90")


def _plain(rows: dict[tuple[str, int], PartitionRow]) -> dict[tuple[str, int], tuple[object, ...]]:
    return {
        at: (row.offset, list(row.finished), row.state, {n: set(numbers) for n, numbers in row.shares.items()})
        for at, row in rows.items()
    }
