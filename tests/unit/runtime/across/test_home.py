"""The way home: acknowledgements of records that were away, in any order, as the process that read them knows them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.model.outcome import Ack, AckStatus
from drakkar_flow.model.record import FULL_CREDIT, Record
from drakkar_flow.runtime.across.home import Away, slim

places = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.integers(0, 99), st.integers(0, 2)), unique=True
)


@given(places, st.data())
def test_each_record_comes_home_once_with_its_place_in_the_chain(
    sent: list[tuple[str, int, int, int]], data: st.DataObject
) -> None:
    """Its credit is that which left; what was made of it in the other process is not needed."""
    away = Away()
    records = [
        Record(topic, partition, offset, previous=offset - 1, share=share, credit=FULL_CREDIT // (share + 1))
        for topic, partition, offset, share in sent
    ]
    away.add(records)
    statuses = data.draw(st.lists(st.sampled_from(AckStatus), min_size=len(sent), max_size=len(sent)))
    guests = [
        Ack(Record(topic, partition, offset, share=share), 1, status)
        for (topic, partition, offset, share), status in zip(sent, statuses, strict=True)
    ]
    came = [ack for some in data.draw(splits(guests)) for ack in away.returned(slim(some))]
    found = {(id(ack.record), ack.credit, ack.status) for ack in came}
    assert found == {(id(record), record.credit, status) for record, status in zip(records, statuses, strict=True)}
    assert len(came) == len(records)


def splits(acks: list[Ack]) -> st.SearchStrategy[list[list[Ack]]]:
    """The acknowledgements in any order, in one or two messages."""
    return st.permutations(acks).flatmap(
        lambda mixed: st.integers(0, len(mixed)).map(lambda cut: [list(mixed[:cut]), list(mixed[cut:])])
    )


def test_a_record_that_will_never_finish_is_reported_and_not_acknowledged() -> None:
    """So no drain waits for it; its offset stays."""
    away, held = Away(), list[Record]()
    away.on_hold = held.extend
    record = Record("in", 0, 7, payload="sent")
    away.add([record, Record("in", 0, 8)])
    acks = away.returned(slim([Ack(Record("in", 0, 7), 0), Ack(Record("in", 0, 8), 1)]))
    assert [ack.record.offset for ack in acks] == [8]
    assert held == [record]
    assert record.payload is None
