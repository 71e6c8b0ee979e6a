"""Recovery slots: each partition has one slot forever, each slot one process."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.slots import SLOTS, slot_of, slots_of_process

ALL = {f"slot-{number:02d}" for number in range(64)}


@given(st.text(), st.integers(0, 2**31 - 1))
def test_every_partition_has_one_of_the_64_slots(topic: str, partition: int) -> None:
    assert slot_of((topic, partition)) in ALL
    assert slot_of((topic, partition)) == slot_of((topic, partition + SLOTS))


@given(st.text())
def test_64_consecutive_partitions_fill_every_slot_once(topic: str) -> None:
    assert {slot_of((topic, partition)) for partition in range(64)} == ALL


@given(st.integers(1, 100))
def test_every_slot_belongs_to_exactly_one_process(count: int) -> None:
    shares = [slots_of_process(index, count) for index in range(count)]
    assert sorted(slot for share in shares for slot in share) == sorted(ALL)


@given(st.integers(1, 100), st.data())
def test_slot_k_belongs_to_process_k_modulo_the_count(count: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, 63))
    assert f"slot-{k:02d}" in slots_of_process(k % count, count)


def test_slots_of_topics_never_change() -> None:
    """They are keys of stores that exist; another number here makes those stores unreadable."""
    assert [slot_of(at) for at in [("orders", 0), ("orders", 63), ("заказы", 5), ("", 0)]] == [
        "slot-46",
        "slot-45",
        "slot-41",
        "slot-00",
    ]


@pytest.mark.parametrize(("index", "count"), [(-1, 2), (2, 2), (0, 0)])
def test_a_process_that_does_not_exist_is_refused(index: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"process {index} of {count}"):
        slots_of_process(index, count)
