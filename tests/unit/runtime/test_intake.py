"""How many records the executor's queue lets in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.runtime.intake import Intake

counts = st.integers(0, 500)


def test_the_first_burst_is_bounded_before_any_task_is_known():
    """Records just read have no tasks yet, so they count themselves."""
    intake = Intake(high=128, low=16)
    assert intake.room(started=0, load=0, in_flight=0, finished=0) == 128
    assert intake.room(started=0, load=0, in_flight=100, finished=0) == 28
    assert intake.room(started=0, load=0, in_flight=128, finished=0) == 0


def test_precomputed_tasks_meet_no_bound():
    """They wait in no queue: as long as nothing else was seen, reading is not held back."""
    intake = Intake(high=128, low=16)
    assert intake.room(started=0, load=0, in_flight=5000, finished=1) > 5000


def test_after_a_stop_reading_goes_on_at_the_low_mark():
    """Between the marks it rests, so that pausing and resuming do not alternate."""
    intake = Intake(high=128, low=16)
    assert intake.room(started=1, load=128, in_flight=1, finished=1) == 0
    assert intake.room(started=1, load=17, in_flight=1, finished=1) == 0
    assert intake.room(started=1, load=16, in_flight=16, finished=1) == 112


@given(st.lists(st.tuples(counts, counts), max_size=50))
def test_the_high_mark_is_never_exceeded(steps):
    """Whatever is let in, load and room together stay within the mark."""
    intake = Intake(high=128, low=16)
    for load, in_flight in steps:
        room = intake.room(started=1, load=load, in_flight=in_flight, finished=1)
        assert room == 0 or room + max(load, in_flight) <= 128
