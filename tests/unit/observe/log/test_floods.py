"""Floods of lines: the first of each cause is logged, the rest is counted by cause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from drakkar_flow.errors import BatchFailed
from drakkar_flow.model.task import ErrorKind, ExecutorError, ExecutorTask
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.executor import (
    ChildEnded,
    ChildStarted,
    ExecutorBreakerChanged,
    HostLimitLow,
    HostShortage,
)
from drakkar_flow.observe.events.hooks import HookRan, PeriodicRan
from drakkar_flow.observe.events.records import RecordsFailed
from drakkar_flow.observe.events.sinks import DeadLetterFailed, DeliveriesFailed, DeliveryRetried
from drakkar_flow.observe.events.source import BrokerStateChanged, CommitFailed, ConsumerError
from drakkar_flow.observe.events.tasks import RetriesExhausted, TaskFailed
from support.log_lines import LogScene

LANE = ("in", 3)


def failed(exit_code: int, stderr: str, program: str = "/bin/grep", kind: ErrorKind = "nonzero_exit") -> TaskFailed:
    """A failed run of a program."""
    task = ExecutorTask(task_id="t", source_offsets=[1])
    return TaskFailed(ExecutorError(task=task, kind=kind, exit_code=exit_code, stderr=stderr, command=[program]))


def test_n3_the_first_failure_of_each_cause_is_logged(scene: LogScene) -> None:
    """Harmless failures don't use up the share of real ones: exit code, program and message tell them apart."""
    for number in range(500):
        scene.bus.emit(failed(1, ""))
        scene.bus.emit(failed(2, f"grep: /data/{number}.txt: No such file"))
    scene.bus.emit(failed(2, "grep: invalid option -- 'y'"))
    scene.bus.emit(failed(2, "", program="/bin/sed"))
    told = [(line["program"], line["exit_code"], line.get("stderr", "")) for line in scene.lines]
    assert told == [
        ("/bin/grep", 1, ""),
        ("/bin/grep", 2, "grep: /data/0.txt: No such file"),
        ("/bin/grep", 1, ""),
        ("/bin/grep", 2, "grep: /data/1.txt: No such file"),
        ("/bin/grep", 2, "grep: invalid option -- 'y'"),
        ("/bin/sed", 2, ""),
    ]
    scene.listener.close()
    summed = {line["cause"]: line["suppressed"] for line in scene.lines if line["event"] == "lines_suppressed"}
    assert summed == {"grep: exit code 1": 498, "grep: exit code 2: grep: /...: No such file": 498}


def test_n3_causes_are_bounded(scene: LogScene) -> None:
    """Messages that are all different share a limit beyond 50, and count together."""
    for number in range(1000):
        word = "".join(chr(97 + int(digit)) for digit in str(number))
        scene.bus.emit(failed(2, f"bad word {word}"))
    assert len(scene.lines) == 50 + 2
    scene.listener.close()
    assert {line["cause"]: line["suppressed"] for line in scene.lines[52:]} == {"other causes": 948}
    scene.clock.now = 61.0
    scene.bus.emit(failed(3, "new"))
    assert scene.lines[-1]["exit_code"] == 3


@pytest.mark.parametrize(
    "make",
    [
        lambda error: RecordsFailed("decode", "decode", LANE, 1, error, "l"),
        lambda error: DeliveryRetried("kafka", "a", 1, 1, 0.5, error),
        lambda error: DeliveriesFailed("kafka", "a", 1, error),
        lambda error: HookRan("arrange", 0.1, error),
        lambda error: PeriodicRan("beat", 0.1, error),
        lambda error: DeadLetterFailed(1, error, dropped=False),
        lambda error: CommitFailed(error),
        lambda error: ConsumerError(error),
        lambda error: BrokerStateChanged(up=False, reason=error),
        lambda error: RetriesExhausted("t", 3, dead=True, error=failed(2, error).error),
    ],
)
def test_n3_every_line_that_may_flood_is_limited_by_cause(scene: LogScene, make: Callable[..., Any]) -> None:
    """The second cause is told though the first is over its limit."""
    for _ in range(100):
        scene.bus.emit(make("connection refused"))
    scene.bus.emit(make("permission denied"))
    assert len(scene.lines) == 3


def test_n3_records_failed_has_the_cause_of_its_task(scene: LogScene) -> None:
    """As the task's own line."""
    scene.bus.emit(RecordsFailed("task", "collect", LANE, 1, "task t failed", "l", cause="grep: exit code 2"))
    scene.bus.emit(RecordsFailed("decode", "decode", LANE, 1, "no JSON at line 7", "l"))
    assert [line["cause"] for line in scene.lines] == ["grep: exit code 2", "no JSON at line #"]


@pytest.mark.parametrize(
    "make",
    [
        lambda name: ExecutorBreakerChanged("open", 5, "no program", "oneshot", name),
        lambda name: ExecutorBreakerChanged("closed", 0, "", "oneshot", name),
        lambda name: HostShortage("executor", "processes", "EAGAIN", executor_name=name),
        lambda name: HostShortage("executor", "processes", "", over=True, executor_name=name),
        lambda name: HostLimitLow("RLIMIT_NOFILE", 256, 500, 3, name),
        lambda name: ChildStarted(0, 17, name),
        lambda name: ChildEnded(0, 17, "exit code 3", failed=True, requests=1, lived_s=1.0, executor_name=name),
    ],
)
def test_each_executor_has_its_share_of_lines(scene: LogScene, make: Callable[[str], Event]) -> None:
    """The trouble of one does not hide the same trouble of another."""
    for name in ("", "a", "b", "c"):
        scene.bus.emit(make(name))
    assert [line.get("executor_name", "") for line in scene.lines] == ["", "a", "b", "c"]


def test_n3_batches_of_any_size_that_fail_for_one_cause_share_its_limit(scene: LogScene) -> None:
    """The number of payloads is no part of the cause."""
    for size in range(2, 30):
        scene.bus.emit(
            DeliveryRetried(
                "kafka", "a", size, 1, 0.5, str(BatchFailed(dict.fromkeys(range(size), OSError("disk full"))))
            )
        )
    assert len(scene.lines) == 2


@pytest.mark.parametrize(("name", "section"), [("", "executor"), ("default", "executor"), ("sha", "executors.sha")])
def test_n4_a_failure_by_exit_code_names_the_key_that_makes_it_a_success(
    scene: LogScene, name: str, section: str
) -> None:
    """Where it is a success of the program; no other kind of failure mentions it."""
    for kind in ("nonzero_exit", "timeout"):
        error = failed(1, "", kind=kind).error
        error.task = ExecutorTask(task_id="t", source_offsets=[1], executor=name)
        scene.bus.emit(TaskFailed(error))
    by_code, by_time = [line["expect"] for line in scene.lines]
    assert by_time == f"it is retried if {section}.retry allows it, else on_error decides"
    assert by_code == f"{by_time}; if 1 means success, add it to {section}.ok_exit_codes"
