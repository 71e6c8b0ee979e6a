"""Properties of the recorder's kernels, for any order of events and clocks."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.model.record import TopicPartition
from drakkar_flow.recorder.fold.faults import Fault, FaultFolder, FaultRow
from drakkar_flow.recorder.fold.keys import Keys, Timeline, key_of, us_of
from drakkar_flow.recorder.fold.names import OTHER, Names
from drakkar_flow.recorder.fold.samples import (
    Budget,
    SlowTasks,
    TaskSampler,
    is_sampled,
    is_traced,
    traced_in,
)
from drakkar_flow.recorder.fold.spans import SpanFolder, SpanRow
from drakkar_flow.recorder.fold.ticks import TickFolder, TickRow, bucket_of, fold, merge_buckets, quantile

TIMES = st.integers(0, 1 << 52)


@given(st.lists(TIMES))
def test_keys_are_unique_and_ascend_whatever_the_clock_does(times: list[int]) -> None:
    keys = Keys()
    made = [keys.next(us) for us in times]
    assert made == sorted(set(made))
    assert all(us_of(key) >= us for key, us in zip(made, times, strict=True))


@given(st.lists(TIMES, min_size=1, unique=True))
def test_a_key_has_the_time_of_its_row_as_long_as_times_ascend(times: list[int]) -> None:
    keys = Keys()
    assert [us_of(keys.next(us)) for us in sorted(times)] == sorted(times)


@given(st.integers(0, 1 << 60), st.integers(0, 1 << 60), st.integers(-(10**12), 10**12))
def test_a_timeline_sees_steps_of_the_wall_clock_and_does_not_follow_them(wall: int, mono: int, step_us: int) -> None:
    timeline = Timeline(wall, mono)
    later = mono + 5_000_000_000
    assert timeline.us(later) == (wall + 5_000_000_000) // 1000
    seen = timeline.step_us(wall + 5_000_000_000 + step_us * 1000, later)
    assert seen == (step_us if abs(step_us) > 1_000_000 else 0)


Added = tuple[int, int, int, int, list[float]]
ADDED = st.tuples(
    st.integers(100, 103),
    st.integers(1, 3),
    st.integers(1, 50),
    st.integers(0, 900),
    st.lists(st.floats(0, 9), max_size=4),
)


def rows_of(added: list[Added], takes: set[int]) -> list[TickRow]:
    """The rows of a file in which rows of one second and name replace each other."""
    ticks = TickFolder()
    written: dict[tuple[int, int], TickRow] = {}
    for number, (second, name, n, size, durations) in enumerate(added):
        ticks.add(second, name, n, size)
        ticks.timed(second, name, durations)
        if number in takes:
            written |= {(row[0], row[2]): row for row in ticks.take(before=100)}
    written |= {(row[0], row[2]): row for row in ticks.take(before=100)}
    return list(written.values())


@given(st.lists(ADDED), st.sets(st.integers(0, 20)))
def test_the_sums_of_ticks_are_those_of_the_events(added: list[Added], takes: set[int]) -> None:
    counts, sizes, spent = Counter[int](), Counter[int](), defaultdict[int, list[float]](list)
    for _, name, n, size, durations in added:
        counts[name] += n + len(durations)
        sizes[name] += size
        spent[name] += durations
    rows = rows_of(added, takes)
    for name in counts:
        mine = [row for row in rows if row[2] == name]
        assert sum(row[3] for row in mine) == counts[name]
        assert sum(row[4] for row in mine) == sizes[name]
        assert sum(row[5] for row in mine) == pytest.approx(sum(spent[name]))
        assert max(row[6] for row in mine) == max(spent[name], default=0.0)
        assert sum(merge_buckets(row[7] for row in mine).values()) == len(spent[name])


@given(st.lists(ADDED), st.sampled_from([10, 60]))
def test_folding_with_age_keeps_every_sum(added: list[Added], span: int) -> None:
    rows = rows_of(added, set())
    folded = fold(fold(rows, 10), span)
    for place in (3, 4):
        assert sum(row[place] for row in folded) == sum(row[place] for row in rows)  # type: ignore[misc]
    assert sum(row[5] for row in folded) == pytest.approx(sum(row[5] for row in rows))
    assert merge_buckets(row[7] for row in folded) == merge_buckets(row[7] for row in rows)
    assert all(row[0] % span == 0 and row[1] == span for row in folded)
    assert len({(row[0], row[2]) for row in folded}) == len(folded)


@given(st.lists(st.floats(1e-6, 1e4), min_size=1), st.sampled_from([0.0, 0.5, 0.99, 1.0]))
def test_a_quantile_is_within_eight_percent(durations: list[float], q: float) -> None:
    true = sorted(durations)[int(q * (len(durations) - 1))]
    assert quantile(dict(Counter(map(bucket_of, durations))), q) == pytest.approx(true, rel=0.08)


# --- spans ----------------------------------------------------------------------------------------

CHUNK = st.tuples(
    st.integers(0, 2),  # partition
    st.integers(1, 30),  # records
    st.integers(0, 5),  # gap before them: compaction, transaction markers
    st.sampled_from(["read", "read", "read", "revoked", "rewound", "written"]),
)


@given(st.lists(CHUNK))
def test_every_record_is_located_by_a_span_of_its_assignment_and_time(
    chunks: list[tuple[int, int, int, str]],
) -> None:
    spans, rows, us = SpanFolder(), list[SpanRow](), 1_000
    following, epochs = Counter[int](), Counter[int]()
    read: list[tuple[TopicPartition, int, int, int]] = []
    for partition, count, gap, what in chunks:
        us += 10
        at = ("in", partition)
        if what == "written":
            rows += spans.take()
        elif what == "revoked":
            epochs[partition] += 1
        elif what == "rewound":
            following[partition] = 0
        first = following[partition] + gap
        offsets = list(range(first, first + count))
        following[partition] = offsets[-1] + 1
        spans.read(at, epochs[partition], first, offsets[-1], count, count * 10, us)
        read += [(at, epochs[partition], offset, us) for offset in offsets]
    rows += spans.take(None)
    assert sum(row.n for row in rows) == len(read)
    for at, epoch, offset, when in read:
        assert any(
            row.topic_partition == at
            and row.epoch == epoch
            and row.first <= offset <= row.last
            and row.read_from_us <= when <= row.read_to_us
            for row in rows
        )


def test_more_partitions_than_the_budget_wait_and_lose_nothing() -> None:
    spans = SpanFolder()
    for partition in range(600):
        spans.read(("in", partition), 1, 0, 9, 10, 100, us=5)
    taken = [len(spans.take()) for _ in range(4)]
    assert taken == [250, 250, 100, 0]


@given(st.lists(st.integers(1, 1000), min_size=1))
def test_the_watermark_of_a_span_is_its_highest(offsets: list[int]) -> None:
    spans = SpanFolder()
    for us, offset in enumerate(offsets):
        spans.passed(("in", 0), 1, offset, us)
    (row,) = spans.take()
    assert (row.passed, row.passed_us) == (max(offsets), offsets.index(max(offsets)))


# --- faults ---------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3_000_000), st.integers(1, 9))))
def test_counts_of_faults_are_exact_and_weights_add_up_to_about_the_failures(
    failures: list[tuple[int, int, int]],
) -> None:
    faults, written = FaultFolder(), dict[int, FaultRow]()
    counts = Counter[int]()
    for number, us, count in failures:
        faults.add(Fault("task", "jq", f"exit {number}", "no"), us, count)
        counts[number] += count
        written |= {row.id: row for row in faults.take()}
    assert {row.what: row.n for row in written.values()} == {f"exit {number}": n for number, n in counts.items()}
    assert all(row.first_us <= row.last_us for row in written.values())


def test_of_one_fault_the_first_twenty_events_of_a_second_are_kept_then_they_thin_out() -> None:
    faults, fault = FaultFolder(), Fault("sink", "kafka:out", "", "down")
    weights = [faults.add(fault, us=7_000_000)[1] for _ in range(4096)]
    kept = [weight for weight in weights if weight]
    assert weights[:20] == [1] * 20
    assert len(kept) == 28  # 20, then the 32nd, the 64th, ... the 4096th
    assert sum(kept) == 4096
    assert faults.add(fault, us=8_000_000)[1] == 1


def test_faults_without_end_count_together_beyond_a_bound() -> None:
    faults = FaultFolder()
    for number in range(5_000):
        faults.add(Fault("hook", "arrange", f"Error{number}", "no"), us=number)
    rows = faults.take()
    assert len(rows) == 2_001
    assert sum(row.n for row in rows) == 5_000


# --- samples --------------------------------------------------------------------------------------


@given(st.integers(1, 500), st.integers(0, 2_000), st.integers(0, 3_000), st.sampled_from(["in", "a:b", "ü"]))
def test_traced_records_are_found_without_a_look_at_each(every: int, first: int, length: int, topic: str) -> None:
    at = (topic, 3)
    expected = [offset for offset in range(first, first + length) if is_traced(at, offset, every)]
    assert traced_in(at, first, first + length - 1, every) == expected
    assert length // every - 1 <= len(expected) <= length // every + 2


def test_nothing_is_traced_if_the_sample_is_off() -> None:
    assert traced_in(("in", 0), 0, 10_000, 0) == []
    assert not is_traced(("in", 0), 0, 0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 400))))
def test_all_tasks_are_kept_until_there_are_too_many_then_one_in_n_stands_for_n(
    ended: list[tuple[int, int]],
) -> None:
    sampler, so_far = TaskSampler(per_second=100), Counter[int]()
    for second, count in sorted(ended):
        so_far[second] += count
        n = sampler.begin(second, count)
        assert n >= -(-so_far[second] // 100)
        assert n == 1 or so_far[second] > 100 or so_far[second - 1] > 100


@given(st.integers(0, 1 << 40), st.integers(2, 50))
def test_a_sample_of_one_in_n_is_one_in_n(first: int, n: int) -> None:
    kept = sum(is_sampled(offset, n) for offset in range(first, first + 100 * n))
    assert 60 <= kept <= 140


def test_a_task_is_slow_beyond_the_p99_of_its_program() -> None:
    slow = SlowTasks()
    assert not any(slow.is_slow("jq", 0.01) for _ in range(200))
    assert slow.is_slow("jq", 0.5)
    assert not slow.is_slow("cat", 0.5)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5))))
def test_a_budget_never_gives_more_than_its_units_in_a_second(takes: list[tuple[int, int]]) -> None:
    budget, used = Budget(7), Counter[int]()
    for second, units in sorted(takes):
        if budget.take(second, units):
            used[second] += units
    assert all(units <= 7 for units in used.values())


def test_names_beyond_the_bound_share_one() -> None:
    names = Names()
    numbers = {names.id("program", f"/bin/{number}") for number in range(12_000)}
    assert len(numbers) == 10_001
    assert names.take()[-1][2] == OTHER
    assert names.id("program", "/bin/0") == 1


def test_a_key_holds_a_time_of_microseconds() -> None:
    assert us_of(key_of(1_800_000_000_000_000) + 15) == 1_800_000_000_000_000
