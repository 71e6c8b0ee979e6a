"""What is finished behind a slow record is not done again by the partition's next owner."""

from __future__ import annotations

import pytest

from support.kafka_io import end_offsets
from support.scene import Scene
from support.until import until
from support.worker import Worker

pytestmark = [pytest.mark.integration, pytest.mark.slow]

COUNT = 1000
HELD = COUNT // 100
QUICK_DRAIN = {"runtime": {"max_in_flight_records": 200, "commit_interval_s": 0.1, "drain_timeout_s": 0.5}}


def hold_some(scene: Scene) -> Worker:
    """Start a worker that finishes all records but every hundredth, and wait until its commits say so."""
    scene.fill(COUNT)
    worker = scene.start("held", QUICK_DRAIN, environment={"HOLD": "1"})
    until(
        lambda: sum(end_offsets(scene.bootstrap, scene.out).values()) == COUNT - HELD, 60, "the others to be delivered"
    )
    until(lambda: scene.told_finished() == COUNT - HELD, 30, "the commits to tell of them")
    return worker


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_a_restart_repeats_nothing_that_finished_behind_a_slow_record(scene: Scene, end: str) -> None:
    """Each record is delivered exactly once, though ten of them never ended in the first life."""
    worker = hold_some(scene)
    if end == "kill":
        worker.kill()
    else:
        assert worker.terminate() == 1  # the drain's budget was over
    second = scene.start("held", QUICK_DRAIN)
    scene.until_finished()
    assert second.terminate() == 0
    assert scene.check_delivered(COUNT) == 0


def test_a_rebalance_repeats_nothing_that_finished_behind_a_slow_record(scene: Scene) -> None:
    """The partitions that move take along what their former owner had finished."""
    first = hold_some(scene)
    second = scene.start("held", QUICK_DRAIN)
    second.until(lambda: "partitions_assigned" in second.stderr, "the second worker to get partitions", 60)
    first.kill()
    scene.until_finished(90)
    assert second.terminate() == 0
    assert scene.check_delivered(COUNT) == 0
