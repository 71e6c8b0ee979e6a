"""The hooks of a handler's life in worker processes on a real group: when they run, and what they can't break."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from support.scene import Scene
from support.worker import Worker

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def said(worker: Worker, *hooks: str) -> list[dict[str, Any]]:
    """What the handler said so far, of some hooks only if any are named."""
    lines = [json.loads(line) for line in worker.stdout.splitlines() if line.startswith("{")]
    return [line for line in lines if not hooks or line["hook"] in hooks]


def held(worker: Worker) -> set[int]:
    """The partitions that the handler believes to have, by what it was told."""
    partitions: set[int] = set()
    for line in said(worker, "on_assign", "on_revoke"):
        if line["hook"] == "on_assign":
            assert partitions.isdisjoint(line["partitions"])
            partitions.update(line["partitions"])
        else:
            assert partitions.issuperset(line["partitions"])
            partitions.difference_update(line["partitions"])
    return partitions


def test_a_handler_hears_of_its_whole_life(scene: Scene) -> None:
    """Start, partitions that come, go to another worker and come back, periodic runs, the end; nothing comes twice."""
    with scene.feeding() as feeder:
        first = scene.start("living")
        first.until(lambda: held(first) == {0, 1, 2, 3}, "it had all partitions")
        first.until(lambda: (first.metric("drakkar_periodic_task_runs_total") or 0) > 2, "its heart beat")
        second = scene.start("living")
        second.until(lambda: len(held(second)) == 2, "half of them went to the second worker", 60)
        assert held(first).isdisjoint(held(second))
        assert second.terminate() == 0, second.stderr
        assert held(second) == set()
        first.until(lambda: held(first) == {0, 1, 2, 3}, "they came back", 60)
    scene.until_finished()
    assert first.metric("drakkar_offload_duration_seconds_count")
    assert first.terminate() == 0, first.stderr
    assert scene.check_delivered(feeder.count) == 0
    order = [line["hook"] for line in said(first) if line["hook"] != "beat"]
    assert order[:3] == ["on_startup", "on_ready", "on_assign"]
    assert order[-2:] == ["watch ended", "on_revoke"]
    assert held(first) == set()
    (ready,) = said(first, "on_ready")
    assert (ready["window_size"], ready["pool"]) == (3, None)


@pytest.mark.parametrize("hook", ["on_startup", "on_ready"])
def test_a_start_that_a_hook_refuses_ends_with_1_and_says_so(scene: Scene, hook: str) -> None:
    """One problem for people, without a traceback; the log has the stack; nothing was read."""
    worker = scene.start("living", {"app": {"fail": hook}})
    assert worker.wait() == 1
    message = "\n".join(line for line in worker.stderr.splitlines() if not line.startswith("{"))
    assert message.count("\n  - ") == 1
    assert f"Living.{hook}: raised RuntimeError: {hook} was told to fail" in message
    assert "Traceback" not in message
    (line,) = [json.loads(line) for line in worker.stderr.splitlines() if "handler_hook_failed" in line]
    assert f"in {hook}" in line["exception"]
    assert said(worker, "on_assign", "beat") == []


@pytest.mark.parametrize("hook", ["on_assign", "on_revoke", "beat"])
def test_a_hook_that_raises_costs_no_record(scene: Scene, hook: str) -> None:
    """All delivered once, all committed, exit 0; that it raised is counted."""
    scene.fill(200)
    worker = scene.start("living", {"app": {"fail": hook}})
    scene.until_finished()
    metric = "drakkar_periodic_task_runs_total" if hook == "beat" else "drakkar_handler_hook_errors_total"
    if hook != "on_revoke":
        worker.until(lambda: worker.metric(metric), "the error was counted")
    assert worker.terminate() == 0, worker.stderr
    assert f"{hook} was told to fail" in worker.stderr
    assert scene.check_delivered(200) == 0


def test_an_on_revoke_that_hangs_does_not_hold_up_the_next_owner(scene: Scene) -> None:
    """The release waits for it no longer than the drain budget; nothing is lost and nothing comes twice."""
    with scene.feeding() as feeder:
        first = scene.start("living", {"app": {"hang": "on_revoke"}, "executor": {"drain_timeout_seconds": 2}})
        first.until(lambda: len(held(first)) == 4, "it had all partitions")
        started = time.monotonic()
        second = scene.start("living")
        second.until(lambda: len(held(second)) == 2, "half of them went to the second worker", 60)
        print(f"handed over within {time.monotonic() - started:.1f} s")
        first.until(lambda: "on_revoke took longer than 2 s" in first.stderr, "the hook was cancelled")
    scene.until_finished()
    assert second.terminate() == 0, second.stderr
    assert first.terminate() == 0, first.stderr
    assert scene.check_delivered(feeder.count) == 0
