"""The rows in which a partition's position, finished offsets and state are stored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.kernel.partition_row import PartitionRow, RowError, decode_rows, encode_rows

ranges = st.lists(st.tuples(st.integers(0, 2**60), st.integers(1, 50))).map(
    lambda found: OffsetRanges((start, start + length) for start, length in found)
)
state = st.dictionaries(st.tuples(st.text(max_size=5), st.text()), st.binary())
rows = st.dictionaries(
    st.tuples(st.text(), st.integers(0, 10_000)), st.builds(PartitionRow, st.integers(0, 2**62), ranges, state)
)


@given(rows)
def test_rows_read_as_they_were_written(given: dict[tuple[str, int], PartitionRow]) -> None:
    """Position, ranges and state, of any partitions."""
    read = decode_rows(encode_rows(given))
    assert {name: (row.offset, list(row.finished), row.state) for name, row in read.items()} == {
        name: (row.offset, list(row.finished), row.state) for name, row in given.items()
    }


@given(rows, st.data())
def test_a_row_that_was_cut_is_an_error(given: dict[tuple[str, int], PartitionRow], data: st.DataObject) -> None:
    """And never another row."""
    written = encode_rows(given)
    with pytest.raises(RowError):
        decode_rows(written[: data.draw(st.integers(0, len(written) - 1))])


def test_a_row_of_a_later_version_says_so() -> None:
    """It is not read in part."""
    with pytest.raises(RowError, match=r"a row of format 2; this version reads up to 1"):
        decode_rows(b"\x92\x02\x90")
