"""Ledger against a serial model: any order of finishing, several keys per record, circles, ties and drops."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.ledger import Ledger
from drakkar_flow.kernel.partition_row import StateKey, StateTables

KEYS = [("count", "a"), ("count", "b"), ("other", "a")]
CHANGES = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(KEYS), st.booleans()), max_size=40)


def fold(changes: list[tuple[int, StateKey, bytes | None]], finished: set[int]) -> dict[StateKey, bytes]:
    """State that a serial run over the changes of `finished` records alone leaves."""
    state: dict[StateKey, bytes] = {}
    for offset, key, value in changes:
        if offset in finished and value is not None:
            state[key] = value
        elif offset in finished:
            state.pop(key, None)
    return state


def closed(changes: list[tuple[int, StateKey, bytes | None]], ties: list[set[int]], finished: set[int]) -> set[int]:
    """The largest set of finished records that depend on none outside of it: the specification of `final`."""
    final = set(finished)
    while True:
        wrong = {
            offset
            for at, (offset, key, _) in enumerate(changes)
            if offset in final
            and any(other not in final for other, same, _ in changes[:at] if same == key and other != offset)
        }
        wrong |= {offset for tie in ties for offset in tie if offset in final and not tie <= final}
        if not wrong:
            return final
        final -= wrong


@given(
    CHANGES,
    st.permutations(range(10)),
    st.lists(st.sets(st.integers(0, 9), min_size=2, max_size=4), max_size=2),
    st.integers(0, 10),
    st.integers(1, 5),
)
def test_final_values_are_the_fold_of_finished_records_whatever_the_order(
    written: list[tuple[int, tuple[str, str], bool]], order: list[int], ties: list[set[int]], cut: int, batch: int
) -> None:
    """After each batch of ends the final records are those of the specification; none waits once all are finished."""
    ledger = Ledger()
    changes = [(offset, key, None if gone else b"%d" % number) for number, (offset, key, gone) in enumerate(written)]
    for offset, key, value in changes:
        ledger.put(key, value, offset)
        assert ledger.get(key) == value
    for tie in ties:
        ledger.tie(tie)
    final: set[int] = set()
    for start in range(0, len(order), batch):
        new = ledger.finish_all(order[start : start + batch])
        assert not final & set(new)
        assert len(new) == len(set(new))
        final |= set(new)
        assert final == closed(changes, ties, set(order[: start + batch]))
        assert ledger.final == fold(changes, final)
        assert len(ledger) == len(ledger.final)
        assert ledger.size == Ledger(ledger.final).size
        if start <= cut < start + batch:
            ledger.clear_unfinished()
            assert ledger.waiting == 0
            assert all(ledger.get(key) == ledger.final.get(key) for key in KEYS)
            return
    assert final == set(range(10))
    assert ledger.waiting == 0


@given(st.data())
def test_records_that_change_state_while_others_finish(data: st.DataObject) -> None:
    """Changes and ends interleave, as hooks do: the final values stay the fold of the final records."""
    ledger = Ledger()
    changes: list[tuple[int, StateKey, bytes | None]] = []
    unfinished: set[int] = set()
    finished: set[int] = set()
    final: set[int] = set()
    offset = 0
    for number in range(data.draw(st.integers(0, 40))):
        if bool(unfinished) and data.draw(st.booleans()):
            ended = data.draw(st.sampled_from(sorted(unfinished)))
            unfinished.discard(ended)
            finished.add(ended)
            final |= set(ledger.finish(ended))
        else:
            if not unfinished or data.draw(st.booleans()):
                unfinished.add(offset := offset + 1)
            changed = data.draw(st.sampled_from(sorted(unfinished)))
            changes.append((changed, data.draw(st.sampled_from(KEYS)), b"%d" % number))
            ledger.put(changes[-1][1], changes[-1][2], changed)
        assert final == closed(changes, [], finished)
        assert ledger.final == fold(changes, final)
    for ended in sorted(unfinished):
        final |= set(ledger.finish(ended))
    assert final == finished | unfinished
    assert ledger.waiting == 0


def test_a_record_without_changes_is_final_at_once() -> None:
    """It waits for none, and leaves nothing behind."""
    ledger = Ledger()
    ledger.put(KEYS[0], b"1", 1)
    assert ledger.finish(2) == [2]
    assert (1 in ledger, 2 in ledger, ledger.waiting) == (True, False, 1)


def test_records_that_changed_two_keys_in_turn_become_final_together() -> None:
    """Each is before the other at one key: a circle."""
    ledger = Ledger()
    for key, value, offset in ((KEYS[0], b"1", 1), (KEYS[0], b"2", 2), (KEYS[1], b"3", 2), (KEYS[1], b"4", 1)):
        ledger.put(key, value, offset)
    assert ledger.finish(2) == []
    assert dict(ledger.final) == {}
    assert sorted(ledger.finish(1)) == [1, 2]
    assert dict(ledger.final) == {KEYS[0]: b"2", KEYS[1]: b"4"}


def test_a_finished_record_changes_nothing_any_more() -> None:
    """A change after the end is a mistake of the caller, and is refused."""
    ledger = Ledger()
    ledger.put(KEYS[0], b"1", 1)
    ledger.put(KEYS[0], b"2", 2)
    ledger.finish(2)
    with pytest.raises(ValueError, match="offset 2 is finished"):
        ledger.put(KEYS[1], b"3", 2)


def test_a_sweep_removes_expired_values_that_no_record_is_changing() -> None:
    """Repeated sweeps reach every key of the step; a key with an unfinished change stays, as do other steps."""
    ledger = Ledger(dict.fromkeys(KEYS, b"old"))
    ledger.put(KEYS[1], b"new", 1)
    for _ in KEYS:
        ledger.sweep("count", lambda value: value == b"old", 1)
    assert set(ledger.final) == {KEYS[1], KEYS[2]}
    assert ledger.finish(1) == [1]
    assert ledger.final == {KEYS[1]: b"new", KEYS[2]: b"old"}


def test_a_read_of_many_keys_sees_the_newest_values() -> None:
    """Those of unfinished records, final ones, and none."""
    ledger = Ledger({("count", "a"): b"1", ("count", "b"): b"2"})
    ledger.put_all("count", [("b", b"3", 1), ("c", b"4", 2), ("c", None, 3)])
    assert ledger.get_all("count", ["a", "b", "c", "d"]) == {"a": b"1", "b": b"3", "c": None, "d": None}
    assert ledger.get_all("other", ["a"]) == {"a": None}


def test_values_given_to_a_ledger_are_copied() -> None:
    """A row that is stored stays as it was."""
    row = StateTables({KEYS[0]: b"1"})
    ledger = Ledger(row)
    ledger.put(KEYS[0], b"2", 1)
    ledger.finish(1)
    assert (dict(row), dict(ledger.final)) == ({KEYS[0]: b"1"}, {KEYS[0]: b"2"})


def test_a_repeated_end_of_a_record_changes_nothing() -> None:
    """Neither one that is final nor one that waits."""
    ledger = Ledger()
    ledger.put(KEYS[0], b"1", 1)
    ledger.put(KEYS[0], b"2", 2)
    ledger.put(KEYS[1], b"3", 3)
    assert ledger.finish_all([3, 3, 2, 2]) == [3, 3]
    assert ledger.finish_all([1, 1]) == [1, 2, 1]
    assert (dict(ledger.final), ledger.waiting) == ({KEYS[0]: b"2", KEYS[1]: b"3"}, 0)


@pytest.mark.parametrize("order", ["forwards", "backwards", "odd first"])
def test_ten_thousand_records_of_one_key_finish_in_any_order(order: str) -> None:
    """A search through all waiting records for each would take minutes."""
    ledger, count = Ledger(), 10_000
    for offset in range(count):
        ledger.put(KEYS[0], b"%d" % offset, offset)
    offsets = list(range(count))
    ended = {"forwards": offsets, "backwards": offsets[::-1], "odd first": offsets[1::2] + offsets[::2][::-1]}[order]
    assert sum(len(ledger.finish(offset)) for offset in ended) == count
    assert ledger.final == {KEYS[0]: b"9999"}
