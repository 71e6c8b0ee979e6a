"""Ids and times as text, in the forms that py-drakkar's users have stored."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow import format_rfc3339_micro, make_request_id, make_stable_task_id, make_task_id


def test_d45_task_ids_sort_in_the_order_of_their_making_and_stable_ids_are_stable() -> None:
    """D-45: the second id sorts after the first; the stable id of known parts is known."""
    made = [make_task_id() for _ in range(1000)]
    assert made == sorted(made)
    assert len(set(made)) == 1000
    assert make_stable_task_id("t", "alpha", "beta") == "t-5d11bfa62398519b"


def test_task_ids_sort_even_when_the_clock_stands_or_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is the point of them."""
    readings = iter([2_000_000_000 << 30, 2_000_000_000 << 30, 5])
    monkeypatch.setattr(time, "time_ns", lambda: next(readings))
    made = [make_task_id() for _ in range(3)]
    assert made == sorted(made)


def test_a_task_id_is_its_prefix_the_time_and_chance() -> None:
    """16 hexadecimal digits of nanoseconds, 8 of chance."""
    assert re.fullmatch(r"scan-[0-9a-f]{16}-[0-9a-f]{8}", make_task_id("scan"))
    assert make_task_id().startswith("t-")


@given(st.lists(st.text(), min_size=1), st.lists(st.text(), min_size=1))
def test_stable_ids_are_equal_only_where_the_parts_are(one: list[str], other: list[str]) -> None:
    """However the parts could be run together."""
    assert (make_stable_task_id("t", *one) == make_stable_task_id("t", *other)) == (one == other)


def test_a_stable_id_needs_parts() -> None:
    """The prefix alone would be one id for all."""
    with pytest.raises(ValueError, match="needs at least one part"):
        make_stable_task_id("t")


def test_a_request_id_tells_the_time_and_counts_up() -> None:
    """For people to read."""
    made = [make_request_id("web") for _ in range(3)]
    assert all(re.fullmatch(r"web_\d{8}T\d{6}_\d{4,}", each) for each in made)
    assert len(set(made)) == 3
    assert make_request_id().startswith("req_")


def test_times_are_written_in_utc_with_six_digits() -> None:
    """So that they sort, and the same time is the same text."""
    berlin = datetime(2026, 7, 5, 14, 34, 56, 7, tzinfo=timezone(timedelta(hours=2)))
    assert format_rfc3339_micro(berlin) == "2026-07-05T12:34:56.000007Z"
    assert format_rfc3339_micro(datetime(1970, 1, 1, tzinfo=UTC)) == "1970-01-01T00:00:00.000000Z"
    assert format_rfc3339_micro(datetime(2026, 7, 5)) == "2026-07-05T00:00:00.000000Z"
