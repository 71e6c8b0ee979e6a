"""Attempts of tasks as the recorder hears of them: each once, with its record, its number and its end."""

from __future__ import annotations

from drakkar_flow import DrakkarConfig, ErrorAction, PrecomputedResult
from drakkar_flow.model.record import Watermark
from drakkar_flow.model.task import ExecutorError, ExecutorTask
from drakkar_flow.observe.events.records import RecordsFinished
from drakkar_flow.observe.events.tasks import LongTaskRan, TaskAttempt, TaskAttempts
from drakkar_flow.testing import Outcome, ScriptedExecutor, run_flow
from support.handlers import PerRecord, task


class Plain(PerRecord):
    """A task per record; failures are skipped."""

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction:
        return ErrorAction.SKIP


def attempts(outcome: Outcome) -> list[TaskAttempt]:
    """All of them, in order."""
    return [each for event in outcome.of(TaskAttempts) for each in event.attempts]


def test_each_attempt_has_its_task_its_record_and_its_number() -> None:
    config = DrakkarConfig(executor={"max_retries": 2, "retry": {"exit_codes": [75]}})
    outcome = run_flow(Plain(), [1, 2], executor=ScriptedExecutor({"t0": [75, "fine"]}), config=config)
    seen = {
        (each.task_id, each.attempt): (each.status, each.exit_code, each.offset, each.last)
        for each in attempts(outcome)
    }
    assert seen == {
        ("t0", 1): ("failed", 75, 0, 0),
        ("t0", 2): ("completed", 0, 0, 0),
        ("t1", 1): ("completed", 0, 1, 1),
    }


def test_a_precomputed_task_has_no_attempt() -> None:
    class Given(PerRecord):
        async def arrange(self, messages, pending):  # type: ignore[no-untyped-def]
            return [task(f"t{m.offset}", m.offset, precomputed=PrecomputedResult(stdout="x")) for m in messages]

    outcome = run_flow(Given(), [1, 2])
    assert attempts(outcome) == []


def test_the_output_of_a_task_is_offered_once_it_took_as_long_as_the_setting_says() -> None:
    debug = {"enabled": True, "output_min_duration_ms": 0}
    outcome = run_flow(Plain(), [1, 2], config=DrakkarConfig(debug=debug))
    assert [event.result.task.task_id for event in outcome.of(LongTaskRan)] == ["t0", "t1"]
    assert run_flow(Plain(), [1, 2]).of(LongTaskRan) == []


def test_finished_records_come_with_their_watermarks_and_assignments() -> None:
    outcome = run_flow(Plain(), [1, 2, 3])
    events = outcome.of(RecordsFinished)
    marks = [mark for event in events for mark in event.watermarks]
    assert max(mark.offset for mark in marks) == 3
    assert all(isinstance(mark, Watermark) for mark in marks)
    assert sum(count for event in events for _, _, count in event.assignments) == 3
