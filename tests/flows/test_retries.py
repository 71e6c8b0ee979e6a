"""Retries: which failures are tried again by themselves, how often, and what waits meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from drakkar_flow import DrakkarConfig, ErrorAction, PrecomputedResult
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorTask
from drakkar_flow.observe.events.tasks import RetriesExhausted, TaskRetried
from drakkar_flow.testing import FlowRun, ScriptedExecutor, run_flow
from support.handlers import LANE, PerRecord, ends, task


class Asking(PerRecord):
    """Notes what on_error is asked about, and answers as told."""

    def __init__(self, answer: Any = ErrorAction.SKIP) -> None:
        super().__init__()
        self.answer = answer
        self.asked: list[tuple[int | None, int]] = []

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> Any:
        self.asked.append((error.exit_code, error.attempt))
        return self.answer


def config(*, max_retries: int = 3, max_in_flight: int = 10_000, **retry: Any) -> DrakkarConfig:
    """Rules for retries."""
    return DrakkarConfig(
        executor={"max_retries": max_retries, "retry": retry}, runtime={"max_in_flight_records": max_in_flight}
    )


@pytest.fixture
def long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries that wait for minutes, unless something makes them due."""
    monkeypatch.setattr("drakkar_flow.testing.run._BACKOFF", Backoff(600, 600))


def test_a_transient_failure_is_retried_without_asking() -> None:
    """An exit code that the rules name: on_error hears nothing when a later attempt succeeds."""
    handler = Asking()
    executor = ScriptedExecutor({"t0": [75, 75, "fine"]})
    outcome = run_flow(handler, [1], executor=executor, config=config(exit_codes=["70-79"]))
    assert (outcome.values, handler.asked) == (["t0"], [])
    assert [event.attempt for event in outcome.of(TaskRetried)] == [1, 2]
    assert ends(outcome) == (1, 0, 0)


def test_on_error_is_asked_when_a_transient_failure_has_had_its_retries() -> None:
    """max_retries is the ceiling of both: RETRY then counts as SKIP, and the error tells the attempt."""
    handler = Asking(ErrorAction.RETRY)
    executor = ScriptedExecutor({"t0": 75})
    outcome = run_flow(handler, [1], executor=executor, config=config(max_retries=2, exit_codes=[75]))
    assert handler.asked == [(75, 3)]
    assert len(executor.started) == 3
    assert ends(outcome) == (0, 1, 0)
    assert outcome.committed == {LANE: 1}


@pytest.mark.parametrize(
    ("answer", "exit_codes", "told"),
    [
        (ErrorAction.RETRY, [], [(3, False)]),
        (ErrorAction.RETRY, [75], [(3, False)]),
        (ErrorAction.DLQ, [75], [(3, True)]),
        (ErrorAction.SKIP, [], []),
    ],
    ids=["asked for", "by the rules and asked for", "by the rules, then dead", "not retried"],
)
def test_a_task_that_has_had_its_retries_is_told_of_once(
    answer: ErrorAction, exit_codes: list[int], told: list[tuple[int, bool]]
) -> None:
    """So that nothing is dropped without a word; whoever skips on purpose needs none."""
    settings = config(max_retries=2, exit_codes=exit_codes)
    outcome = run_flow(Asking(answer), [1], executor=ScriptedExecutor({"t0": 75}), config=settings)
    assert [(event.attempts, event.dead) for event in outcome.of(RetriesExhausted)] == told


def test_what_the_rules_do_not_name_is_asked_about_at_once() -> None:
    """Every attempt is counted, whoever wanted it."""
    handler = Asking(ErrorAction.RETRY)
    executor = ScriptedExecutor({"t0": [75, 2, 1, "fine"]})
    rules = config(retry_on=["nonzero_exit"], never_exit_codes=[2, "10-20"])
    assert run_flow(handler, [1], executor=executor, config=rules).values == ["t0"]
    assert handler.asked == [(2, 2)]


def test_a_retry_comes_no_later_than_the_rules_allow() -> None:
    """With the time over after the first failure, RETRY counts as SKIP."""
    handler = Asking(ErrorAction.RETRY)
    executor = ScriptedExecutor({"t0": 1})
    outcome = run_flow(handler, [1], executor=executor, config=config(retry_on=["nonzero_exit"], max_elapsed_s=1e-9))
    assert handler.asked == [(1, 1)]
    assert ends(outcome) == (0, 1, 0)


def test_a_precomputed_failure_is_not_retried_by_itself() -> None:
    """It would be the same again."""

    class Given(Asking):
        def tasks(self, messages: list[Record]) -> list[ExecutorTask]:
            return [task("t0", 0, precomputed=PrecomputedResult(exit_code=75))]

    handler = Given()
    run_flow(handler, [1], config=config(exit_codes=[75]))
    assert handler.asked == [(75, 1)]


def test_a_parked_retry_holds_no_slot_and_is_tried_at_once_when_the_flow_drains(long_pauses: None) -> None:
    """The executor knows nothing of it, and a drain does not wait for the pause."""
    executor = ScriptedExecutor({"t0": [1, "fine"]})
    handler = Asking(ErrorAction.RETRY)
    with FlowRun(handler, [1], executor=executor, open_end=True) as run:
        run.wait_until(lambda: handler.asked)
        run.wait_until(lambda: executor.statistics()[:2] == (0, 0))
        assert run.in_flight.records == 1
        run.control.stop()
        outcome = run.finish()
    assert (outcome.values, outcome.committed) == (["t0"], {LANE: 1})


def test_a_parked_retry_is_tried_at_once_when_its_partition_is_revoked(long_pauses: None) -> None:
    """The revoke waits for what is in flight, so nothing needs to be done again elsewhere."""
    executor = ScriptedExecutor({"t0": [1, "fine"]})
    handler = Asking(ErrorAction.RETRY)
    with FlowRun(handler, [1], executor=executor, open_end=True) as run:
        run.wait_until(lambda: handler.asked)
        assert run.reader.revoke(drain_s=20) == 0
        assert run.sink().values == ["t0"]


def test_records_that_always_fail_leave_room_for_the_others(long_pauses: None) -> None:
    """Half of what may be in flight is parked at most; what comes on top ends its retries at once."""

    class OddFails(Asking):
        def tasks(self, messages: list[Record]) -> list[ExecutorTask]:
            return [task("bad" if record.payload % 2 else f"t{record.offset}", record.offset) for record in messages]

    handler = OddFails(ErrorAction.RETRY)
    executor = ScriptedExecutor({"bad": 1})
    with FlowRun(handler, range(100), executor=executor, config=config(max_in_flight=10), open_end=True) as run:
        run.wait_until(lambda: len(run.sink().values) == 50)
        run.wait_until(lambda: run.in_flight.records == 5)
        assert len(handler.asked) > 4 * 45


def test_only_failing_records_never_freeze_the_intake(long_pauses: None) -> None:
    """Each has its ceiling, so everything is read however long the pauses are."""
    handler = Asking(ErrorAction.RETRY)
    executor = ScriptedExecutor(lambda task: 1)
    no_brake = config(max_in_flight=8).replaced(dlq={"stop_after": 0})
    with FlowRun(handler, range(200), executor=executor, config=no_brake, open_end=True) as run:
        run.wait_until(lambda: len(handler.windows) and max(handler.windows[-1]) == 199)
        run.wait_until(lambda: run.in_flight.records == 4)


def test_a_drain_does_not_use_up_the_retries_of_what_fails_again(long_pauses: None) -> None:
    """In the middle of an outage: its record is not committed, so the next owner tries it, with all its retries."""
    executor = ScriptedExecutor({"t0": 1, "t1": "fine"})
    handler = Asking(ErrorAction.RETRY)
    settings = DrakkarConfig(executor={"drain_timeout_seconds": 0.5})
    with FlowRun(handler, [1, 2], executor=executor, config=settings, open_end=True) as run:
        run.wait_until(lambda: run.in_flight.records == 1)
        run.control.stop()
        outcome = run.finish()
    assert len(handler.asked) == 2
    assert outcome.of(RetriesExhausted) == []
    assert outcome.committed == {}
