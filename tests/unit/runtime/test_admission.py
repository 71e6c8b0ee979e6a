"""How many records are read while the executor has a queue."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.runtime.admission import AdmissionControl

SLOTS, HIGH, LOW = 4, 128, 16


def test_the_first_burst_is_bounded_before_any_task_is_known() -> None:
    """What was granted is used up until it had time to show as load."""
    intake = AdmissionControl(HIGH // SLOTS, LOW // SLOTS)
    assert intake.room(now=0.0, slots=SLOTS, load=0, finished=0) == 128
    intake.take(100)
    assert intake.room(now=0.001, slots=SLOTS, load=0, finished=0) == 28
    intake.take(28)
    assert intake.room(now=0.019, slots=SLOTS, load=0, finished=0) == 0
    assert intake.room(now=0.02, slots=SLOTS, load=128, finished=0) == 0


def test_a_queue_is_filled_up_to_the_high_mark() -> None:
    """Above the low mark only what is missing is granted."""
    intake = AdmissionControl(HIGH // SLOTS, LOW // SLOTS)
    assert intake.room(now=0.0, slots=SLOTS, load=100, finished=0) == 28
    assert intake.room(now=0.1, slots=SLOTS, load=500, finished=0) == 0
    assert intake.room(now=0.2, slots=SLOTS, load=17, finished=0) == 111


def test_records_that_wait_elsewhere_do_not_keep_the_executor_idle() -> None:
    """A window that lingers, a parked retry, a slow sink: more is granted all the same."""
    intake = AdmissionControl(HIGH // SLOTS, LOW // SLOTS)
    for turn in range(5):
        assert intake.room(now=turn * 0.02, slots=SLOTS, load=0, finished=0) == 128
        intake.take(128)


def test_where_nothing_queues_the_grant_grows_and_shrinks_at_the_first_queue() -> None:
    """Precomputed tasks pass at any rate; real ones end that."""
    intake = AdmissionControl(HIGH // SLOTS, LOW // SLOTS)
    finished = 0
    grants = []
    for turn in range(10):
        grants.append(intake.room(now=turn * 0.02, slots=SLOTS, load=0, finished=finished))
        intake.take(grants[-1])
        finished += grants[-1]
    assert grants[:3] == [128, 256, 512]
    assert grants[-1] == 5_000
    assert intake.room(now=1.0, slots=SLOTS, load=17, finished=finished) == 111
    intake.take(111)
    assert intake.room(now=1.1, slots=SLOTS, load=0, finished=finished) == 128


@given(st.lists(st.tuples(st.floats(0, 0.05), st.integers(0, 500), st.integers(0, 300)), max_size=50))
def test_with_a_queue_load_and_room_together_stay_within_the_high_mark(steps: list[tuple[float, int, int]]) -> None:
    """Whatever is taken: what is granted anew never exceeds what is missing."""
    intake = AdmissionControl(HIGH // SLOTS, LOW // SLOTS)
    now = 0.0
    for pause, load, want in steps:
        now += 0.02 + pause
        room = intake.room(now=now, slots=SLOTS, load=load, finished=0)
        assert room >= 0
        if load > LOW:
            assert room == max(0, HIGH - load)
        intake.take(min(want, room))


def test_a_fast_pool_never_runs_dry() -> None:
    """Four slots that end 400 tasks in 25 ms hold more than 128 of them."""
    intake = AdmissionControl(HIGH // SLOTS, LOW // SLOTS)
    load = ended = 0
    for turn in range(50):
        room = intake.room(now=turn * 0.025, slots=SLOTS, load=load, finished=ended, ended=ended)
        intake.take(room)
        load += room
        done = min(400, load)
        load -= done
        ended += done
    assert done == 400
    assert load + room <= 2_000


def test_a_fast_pool_that_turns_slow_holds_no_more_than_before() -> None:
    """What was granted for its former pace is worked off before there is anything new."""
    intake = AdmissionControl(HIGH // SLOTS, LOW // SLOTS)
    assert intake.room(now=0.0, slots=SLOTS, load=0, finished=0) == 128
    assert intake.room(now=0.02, slots=SLOTS, load=500, finished=0, ended=400) == 300
    assert intake.room(now=0.04, slots=SLOTS, load=800, finished=0, ended=401) == 0
    assert intake.room(now=0.06, slots=SLOTS, load=100, finished=0, ended=402) == 28


def test_the_marks_follow_the_slots() -> None:
    """Children that take many requests at once are slots, each of them."""
    intake = AdmissionControl(HIGH // SLOTS, LOW // SLOTS)
    assert intake.room(now=0.0, slots=256, load=0, finished=0) == 256 * 32
    assert intake.room(now=0.1, slots=1, load=5, finished=0) == 27


def test_a_long_time_between_two_looks_is_no_pace() -> None:
    """4,000 tasks ended in ten seconds are 8 in 20 ms."""
    intake = AdmissionControl(HIGH // SLOTS, LOW // SLOTS)
    assert intake.room(now=0.0, slots=SLOTS, load=0, finished=0) == 128
    assert intake.room(now=10.0, slots=SLOTS, load=100, finished=0, ended=4000) == 28
