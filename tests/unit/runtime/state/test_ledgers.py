"""Ledgers of a process, and the tracker that finishes a record only with its changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.partition_row import PartitionRow
from drakkar_flow.model.outcome import Ack, AckStatus
from drakkar_flow.model.record import FULL_CREDIT, Record
from drakkar_flow.runtime.acknowledgement.commit import Track
from drakkar_flow.runtime.acknowledgement.credit import InvariantError, split
from drakkar_flow.runtime.acknowledgement.tracker import SettleResult
from drakkar_flow.runtime.chunk import Chunk
from drakkar_flow.runtime.state.ledgers import Ledgers

PARTITION = ("in", 0)
KEY = ("count", "anna")


def records(count: int, epoch: int = 1) -> list[Record]:
    """The records of one assignment."""
    return [Record(*PARTITION, offset, epoch=epoch, previous=offset - 1) for offset in range(count)]


def put(ledgers: Ledgers, record: Record, value: bytes, key: tuple[str, str] = KEY) -> None:
    """Change a value for a record."""
    with ledgers.lock:
        ledger = ledgers.at(PARTITION, record.epoch)
        if ledger is not None:
            ledger.put(key, value, record.offset)


def settle(track: Track, *acks: Ack) -> SettleResult:
    """Acknowledge as the last step of a flow does."""
    (result,) = track.step([("0", Chunk(acks=list(acks)))])
    return result


def row_of(track: Track, epoch: int = 1) -> PartitionRow:
    """The row that would be stored now."""
    row = track.row(PARTITION, epoch)
    assert row is not None
    return row


def test_a_record_finishes_with_the_change_before_it() -> None:
    """A slow record holds the commits of its key, and of no other."""
    track = Track()
    ledgers = track.keep_state()
    slow, held, free = records(3)
    put(ledgers, slow, b"1")
    put(ledgers, held, b"2")
    put(ledgers, free, b"9", ("count", "otto"))
    done = settle(track, Ack(held, FULL_CREDIT), Ack(free, FULL_CREDIT))
    assert done.finished == {(PARTITION, 1): (1, 0)}
    row = row_of(track)
    assert (row.offset, list(row.finished), row.state) == (-1, [(2, 3)], {("count", "otto"): b"9"})
    done = settle(track, Ack(slow, FULL_CREDIT))
    assert (done.watermarks[0].offset, done.done) == (3, 2)
    assert row_of(track).state == {KEY: b"2", ("count", "otto"): b"9"}


def test_shares_returned_before_and_after_a_change_add_up() -> None:
    """A record that was divided may return a share before another share reaches the state."""
    track = Track()
    ledgers = track.keep_state()
    (record,) = records(1)
    early, late, last = split(FULL_CREDIT, 3)
    assert settle(track, Ack(record, early, AckStatus.SKIPPED)).finished == {}
    put(ledgers, record, b"1")
    assert settle(track, Ack(record, late)).finished == {}
    done = settle(track, Ack(record, last))
    assert (done.skipped, done.watermarks[0].offset, row_of(track).state) == (1, 1, {KEY: b"1"})


def test_a_fenced_record_drops_the_changes_of_its_assignment() -> None:
    """Held records pass as fenced, nothing of them is committed, and the next assignment begins with final values."""
    track = Track()
    ledgers = track.keep_state()
    first, second, third = records(3)
    for record, value in ((first, b"1"), (second, b"2"), (third, b"3")):
        put(ledgers, record, value)
    settle(track, Ack(first, FULL_CREDIT))
    before = row_of(track)
    settle(track, Ack(third, FULL_CREDIT))
    done = settle(track, Ack(second, FULL_CREDIT, AckStatus.FENCED))
    assert (done.fenced, done.watermarks, done.finished) == (2, [], {(PARTITION, 1): (2, 0)})
    assert track.row(PARTITION, 1) is None
    assert before.state == ledgers.final(PARTITION) == {KEY: b"1"}
    again = records(3, epoch=2)[1]
    with ledgers.lock:
        ledger = ledgers.at(PARTITION, 2)
        assert ledger is not None
        assert ledger.get(KEY) == b"1"
        assert ledgers.at(PARTITION, 1) is None
    put(ledgers, second, b"late")
    put(ledgers, again, b"2")
    settle(track, Ack(again, FULL_CREDIT))
    assert ledgers.final(PARTITION) == {KEY: b"2"}


def test_records_held_when_a_newer_assignment_begins_are_released() -> None:
    """Their changes are gone; the records in flight are counted down."""
    track = Track()
    ledgers = track.keep_state()
    first, second = records(2)
    put(ledgers, first, b"1")
    put(ledgers, second, b"2")
    assert settle(track, Ack(second, FULL_CREDIT)).finished == {}
    put(ledgers, records(1, epoch=2)[0], b"1")
    done = settle(track, Ack(first, FULL_CREDIT))
    assert done.finished == {(PARTITION, 1): (2, 0)}
    assert ledgers.final(PARTITION) == {}


def test_loaded_state_replaces_that_of_earlier_assignments() -> None:
    """Records of an assignment before the load change nothing any more."""
    ledgers = Ledgers()
    old, new = records(1)[0], records(1, epoch=2)[0]
    put(ledgers, old, b"1")
    ledgers.load(PARTITION, {KEY: b"7"})
    put(ledgers, old, b"2")
    with ledgers.lock:
        assert ledgers.at(PARTITION, 1) is None
    assert ledgers.final(PARTITION) == {KEY: b"7"}
    put(ledgers, new, b"8")
    assert ledgers.final(PARTITION) == {KEY: b"7"}
    (size,) = ledgers.sizes().values()
    assert size == (1, len("countanna7"), 1)


def test_a_flow_without_state_has_no_ledgers() -> None:
    """Its rows have positions alone."""
    track = Track()
    assert track.ledgers is None
    settle(track, Ack(records(1)[0], FULL_CREDIT))
    row = row_of(track)
    assert (row.offset, list(row.finished), row.state) == (1, [], {})


def test_repeated_acknowledgements_count_once() -> None:
    """Of records that are final and of records that wait, in one batch and in a later one."""
    track = Track()
    ledgers = track.keep_state()
    slow, held, free = records(3)
    put(ledgers, slow, b"1")
    put(ledgers, held, b"2")
    whole = [Ack(record, FULL_CREDIT) for record in (slow, held, free)]
    assert settle(track, whole[1], whole[2], whole[1], whole[2]).done == 1
    assert settle(track, whole[1], whole[2]).done == 0
    done = settle(track, whole[0], whole[0], whole[1])
    assert (done.done, done.watermarks[0].offset, row_of(track).state) == (2, 3, {KEY: b"2"})


def test_a_record_that_waits_is_held_while_earlier_ones_are_released() -> None:
    """Though as many records become final as acknowledgements came."""
    track = Track()
    ledgers = track.keep_state()
    first, second, slow, held = records(4)
    for record, value, key in ((first, b"1", "a"), (second, b"2", "a"), (slow, b"3", "b"), (held, b"4", "b")):
        put(ledgers, record, value, ("count", key))
    assert settle(track, Ack(second, FULL_CREDIT)).done == 0
    assert settle(track, Ack(first, FULL_CREDIT), Ack(held, FULL_CREDIT)).done == 2
    row = row_of(track)
    assert (row.offset, list(row.finished), row.state) == (2, [], {("count", "a"): b"2"})


def test_more_credit_than_a_record_had_is_an_error_of_the_library() -> None:
    """Also if a share of it is held."""
    track = Track()
    ledgers = track.keep_state()
    (record,) = records(1)
    put(ledgers, record, b"1")
    settle(track, Ack(record, split(FULL_CREDIT, 2)[0]))
    with pytest.raises(InvariantError, match="in:0:0"):
        settle(track, Ack(record, FULL_CREDIT))


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abc")), max_size=30),
    st.permutations([(offset, share) for offset in range(10) for share in range(2)]),
    st.sets(st.integers(0, 9)),
    st.integers(1, 5),
)
def test_each_row_is_the_fold_of_the_records_it_calls_finished(
    changes: list[tuple[int, str]], order: list[tuple[int, int]], divided: set[int], batch: int
) -> None:
    """Position, offsets finished beyond it and state are of one instant, whatever ends when; none waits at the end."""
    track = Track()
    ledgers = track.keep_state()
    read = records(10)
    for number, (offset, key) in enumerate(changes):
        put(ledgers, read[offset], b"%d" % number, ("count", key))
    shares = split(FULL_CREDIT, 2)
    acks = [
        Ack(read[offset], shares[share] if offset in divided else FULL_CREDIT)
        for offset, share in order
        if offset in divided or share == 0
    ]
    for start in range(0, len(acks), batch):
        settle(track, *acks[start : start + batch])
        row = row_of(track)
        finished = {offset for offset in range(10) if offset < row.offset or offset in row.finished}
        folded = {("count", key): b"%d" % number for number, (offset, key) in enumerate(changes) if offset in finished}
        assert row.state == folded
    assert row_of(track).offset == 10
