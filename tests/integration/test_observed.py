"""What a worker tells those who watch it: readiness, lag, staleness, stalls with their stacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.kafka_io import end_offsets, produce
from support.scene import Scene
from support.worker import Worker

pytestmark = pytest.mark.integration

QUICK = {"stuck_after_s": 1.0, "blocked_after_s": 1.0}


def _waiting(scene: Scene, how: str, gate: Path, **runtime: float) -> Worker:
    overrides: dict[str, dict[str, Any]] = {"executor": {"window_size": 1}, "runtime": {**QUICK, **runtime}}
    return scene.start("waiting", overrides, {"GATE": str(gate), "HOW": how})


def _reasons(worker: Worker) -> list[str]:
    status, content = worker.get("/readyz")
    if status == 0:
        return ["nobody answers"]
    found: list[str] = json.loads(content)["reasons"]
    assert (status == 200) is (found == [])
    return found


def _lag(scene: Scene) -> dict[int, float]:
    committed = scene.committed()
    return {partition: end - committed.get(partition, 0) for partition, end in end_offsets_of(scene).items()}


def end_offsets_of(scene: Scene) -> dict[int, int]:
    """The end of every partition of the source."""
    return end_offsets(scene.bootstrap, scene.source)


def test_d46_a_worker_is_ready_once_it_has_its_partitions(scene: Scene) -> None:
    """Before, it says what it waits for; alive it is all the time."""
    worker = scene.start("precomputed")
    seen: list[str] = []
    worker.until(lambda: seen.extend(_reasons(worker)) or _reasons(worker) == [], "it was ready")  # type: ignore[func-returns-value]  # it returns nothing, so the right side is returned
    assert {"not_started", "no_assignment"} & set(seen)
    status, content = worker.get("/healthz")
    assert status == 200
    assert json.loads(content)["heartbeat_age_s"].keys() == {"loop", "engine"}
    assert worker.terminate() == 0, worker.stderr


def test_a_partition_that_waits_is_behind_stale_and_told_with_its_stack(scene: Scene, tmp_path: Path) -> None:
    """With or without a position, the lag is the broker's; when the hook goes on, all is well again."""
    gate = tmp_path / "gate"
    worker = _waiting(scene, "await", gate)
    produce(scene.bootstrap, scene.source, ["go"] * 10 + ["wait"] + ["go"] * 20, partition=0)
    produce(scene.bootstrap, scene.source, ["wait"] + ["go"] * 30, partition=1)
    worker.until(lambda: scene.committed().get(0) == 10, "what comes before was committed")
    wanted = {0: 21, 1: 31, 2: 0, 3: 0}
    worker.until(lambda: worker.by_partition("drakkar_consumer_lag") == wanted, "the lag was told")
    assert _lag(scene) == wanted
    worker.until(lambda: len(worker.lines("partition_stalled")) == 2, "both stalls were told")
    told = {line["partition"]: line for line in worker.lines("partition_stalled")}
    assert (told[0]["offset"], told[1]["offset"]) == (10, 0)
    assert told[0]["waits_for"] == "arrange"
    assert "in Waiting.wait" in told[0]["stacks"][f"arrange {scene.source}:0:10"]
    assert _reasons(worker) == [f"partition_{scene.source}:{number}_stalled" for number in (0, 1)]
    stale = worker.by_partition("drakkar_partition_staleness_seconds")
    assert min(stale[0], stale[1]) >= 1.0
    assert (stale[2], stale[3]) == (0.0, 0.0)
    gate.touch()
    scene.until_finished()
    worker.until(lambda: len(worker.lines("partition_moves_again")) == 2, "their ends were told")
    worker.until(lambda: _reasons(worker) == [], "it was ready again")
    worker.until(lambda: worker.metric("drakkar_consumer_lag") == 0, "the lag was gone")
    assert worker.metric("user_seen_total") == 62
    assert worker.lines("user_metrics_discovered")[0]["metrics"] == ["seen"]
    assert worker.terminate() == 0, worker.stderr


def test_a_hook_that_blocks_the_loop_is_told_with_its_stack(scene: Scene, tmp_path: Path) -> None:
    """The commonest mistake in a hook: everything waits for it, and the log says for which line."""
    gate = tmp_path / "gate"
    worker = _waiting(scene, "block", gate, stuck_after_s=0)
    produce(scene.bootstrap, scene.source, ["wait"], partition=0)
    worker.until(lambda: worker.lines("loop_stalled"), "the stall was told")
    assert "Event().wait(0.05)" in worker.lines("loop_stalled")[0]["stacks"]["loop thread"]
    assert _reasons(worker) == ["loop_stalled"]
    assert worker.get("/healthz")[0] == 200
    gate.touch()
    worker.until(lambda: worker.lines("loop_moves_again"), "its end was told")
    scene.until_finished()
    assert worker.metric("drakkar_runtime_stalls_total") == 1
    assert worker.terminate() == 0, worker.stderr


def test_series_of_partitions_that_went_to_another_worker_vanish(scene: Scene) -> None:
    """After a rebalance each partition is on one page only, with whatever is told of it."""
    first = scene.start("precomputed")
    scene.fill(100)
    scene.until_finished()
    assert len(first.by_partition("drakkar_messages_consumed_total")) == 4
    second = scene.start("precomputed")
    second.until(lambda: second.metric("drakkar_assigned_partitions") == 2, "it had its share")
    first.until(lambda: first.metric("drakkar_assigned_partitions") == 2, "the first had given it up")
    here, there = first.by_partition(".*").keys(), second.by_partition(".*").keys()
    assert (len(here), len(there), here & there) == (2, 2, set())
    assert [worker.terminate() for worker in (first, second)] == [0, 0]
