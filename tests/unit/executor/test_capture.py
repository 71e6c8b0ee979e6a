"""What is kept of output."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.executor.capture import Capture, cut_text


@given(st.text(), st.integers(0, 40))
def test_a_cut_never_splits_a_character(text: str, limit: int) -> None:
    """The cut text is the longest prefix of whole characters that fits."""
    data = text.encode("utf-8", "replace")
    cut = cut_text(data, limit)
    assert data.decode().startswith(cut.decode())
    following = data.decode()[len(cut.decode()) : len(cut.decode()) + 1]
    assert len(cut) <= limit or not data
    assert not following or len(cut) + len(following.encode()) > limit


@given(st.binary(), st.integers(0, 40))
def test_bytes_that_are_no_text_lose_at_most_three_bytes_more(data: bytes, limit: int) -> None:
    """Any bytes are cut near the limit, never above it."""
    cut = cut_text(data, limit)
    assert data.startswith(cut)
    assert min(len(data), limit) - 3 <= len(cut) <= limit or cut == data


@given(st.lists(st.binary(max_size=8)), st.integers(0, 20))
def test_a_capture_keeps_the_beginning(chunks: list[bytes], limit: int) -> None:
    """However output is chopped, the text is that of its capped whole, and the flag tells whether bytes are missing."""
    capture = Capture(limit)
    for chunk in chunks:
        capture.add(chunk)
    whole = b"".join(chunks)
    expected = cut_text(whole, limit) if limit else whole
    assert capture.decoded()[0] == expected.decode("utf-8", "replace")
    assert capture.truncated == (expected != whole)


def test_a_full_capture_holds_no_more_than_its_limit() -> None:
    """What comes after the cap is not held."""
    capture = Capture(10)
    for _ in range(1000):
        capture.add(b"x" * 1000)
    assert sum(map(len, capture._chunks)) == 10
