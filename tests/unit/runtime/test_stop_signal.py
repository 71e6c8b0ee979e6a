"""Control: who asked for the end, why, and how long work in flight may take."""

from __future__ import annotations

from drakkar_flow.model.record import Record
from drakkar_flow.runtime.stop_signal import StopSignal


def test_the_first_stop_starts_the_budget_and_later_ones_change_nothing() -> None:
    """stop tells whether it was the first; the budget runs from then."""
    control = StopSignal(600.0)
    assert (control.stopping, control.budget_s) == (False, 600.0)
    assert control.stop() is True
    first = control.budget_s
    assert 0 < first <= 600.0
    assert control.stop() is False
    assert control.budget_s <= first
    assert control.stopping
    assert control.failure is None


def test_the_budget_is_never_negative() -> None:
    """A budget that is over is 0."""
    control = StopSignal(0.0)
    control.stop()
    assert control.budget_s == 0.0


def test_a_failure_stops_the_flow_and_the_first_reason_is_kept() -> None:
    """Later failures are consequences."""
    control = StopSignal(600.0)
    control.fail("first")
    control.fail("second")
    assert (control.failure, control.stopping) == ("first", True)
    assert control.stop() is False


def test_a_failure_during_a_drain_keeps_its_deadline() -> None:
    """The budget is not given twice."""
    control = StopSignal(600.0)
    control.stop()
    before = control.budget_s
    control.fail("late")
    assert control.budget_s <= before
    assert control.failure == "late"


def test_abandoning_ends_the_budget_at_once() -> None:
    """Before and after a stop."""
    for stopped_before in (True, False):
        control = StopSignal(600.0)
        if stopped_before:
            control.stop()
        control.abandon("enough")
        assert (control.stopping, control.budget_s, control.failure) == (True, 0.0, "enough")


def test_held_records_are_counted_once() -> None:
    """Shares of one record are one record; another epoch is another one."""
    control = StopSignal(1.0)
    assert control.held == 0
    control.hold([Record("in", 0, 1), Record("in", 0, 1)])
    control.hold([Record("in", 0, 1), Record("in", 0, 1, epoch=2), Record("in", 1, 1)])
    assert control.held == 3
