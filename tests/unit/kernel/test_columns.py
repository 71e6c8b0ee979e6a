"""Columns: records on their way to another process arrive as they left."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.columns import pack, payloads_of, records_of
from drakkar_flow.model.record import FULL_CREDIT, Record

_SENT = (
    *("topic", "partition", "offset", "value", "key", "timestamp", "headers", "epoch", "read_at", "is_tombstone"),
    *("parse_error", "shard", "state_key"),
)
records = st.builds(
    Record,
    topic=st.sampled_from(["in", "other"]),
    partition=st.integers(0, 2),
    offset=st.integers(0, 2**62),
    value=st.binary(),
    key=st.none() | st.binary(),
    timestamp=st.integers(-1, 2**50),
    headers=st.none() | st.lists(st.tuples(st.text(), st.binary()), max_size=2),
    payload=st.none() | st.dictionaries(st.text(), st.integers()),
    epoch=st.integers(0, 3),
    previous=st.integers(-1, 5),
    read_at=st.floats(0, 1e9),
    is_tombstone=st.booleans(),
    parse_error=st.none() | st.text(),
    shard=st.integers(0, 63),
    state_key=st.text(),
)


@given(st.lists(records, min_size=1, max_size=30))
def test_records_arrive_with_all_that_a_step_may_read(sent: list[Record]) -> None:
    """In their order, of any partitions; the chain of offsets stays at home."""
    message = pack(sent)
    got = records_of(message)
    assert [[getattr(record, name) for name in _SENT] for record in got] == [
        [getattr(record, name) for name in _SENT] for record in sent
    ]
    assert (payloads_of(message) or [None] * len(sent)) == [record.payload for record in sent]
    assert {record.previous for record in got} == {-1}
    assert {record.credit for record in got} == {FULL_CREDIT}


@given(st.lists(st.tuples(st.integers(0, 3), st.fractions(min_value=Fraction(1, 10**30))), min_size=1, max_size=20))
def test_shares_of_a_record_arrive_as_shares(sent: list[tuple[int, Fraction]]) -> None:
    """With their credit, which is exact, and their number; the record's bytes are sent once."""
    shares = []
    for number, (offset, credit) in enumerate(sent):
        part = credit if credit.denominator > 1 else int(credit)
        shares.append(Record("in", 0, offset, b"raw", payload=number, credit=part, share=number, shard=number))
    got = records_of(pack(shares))
    assert [(each.offset, each.credit, each.share, each.shard) for each in got] == [
        (each.offset, each.credit, each.share, each.shard) for each in shares
    ]
    by_offset: dict[int, list[Record]] = {}
    for each in got:
        by_offset.setdefault(each.offset, []).append(each)
    for same in by_offset.values():
        assert len({id(each.held) for each in same}) == len({id(each.task_counter) for each in same}) == 1


def test_a_message_is_small() -> None:
    """A value that several shares have in common is in it once."""
    shares = [Record("in", 0, 7, b"x" * 1000, credit=1, share=number, shard=0) for number in range(100)]
    assert len(pack(shares)[0]) < 3000


@pytest.mark.parametrize("payload", [lambda: 0, (n for n in "x"), open])
def test_a_payload_that_can_not_be_pickled_is_an_error(payload: Any) -> None:
    """Of the caller, which knows the record."""
    if payload is open:
        assert payloads_of(pack([Record("in", 0, 7, payload=payload, shard=0)])) == [open]
        return
    with pytest.raises(Exception, match="pickle"):
        pack([Record("in", 0, 7, payload=payload, shard=0)])
