"""R1: whatever moment a worker is killed at, nothing is lost."""

from __future__ import annotations

import random
import threading

import pytest

from support.scene import Scene
from support.until import until
from support.worker import Worker

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROUNDS = 10
MEMBERS = ("one", "two")
KILLS = ROUNDS * len(MEMBERS)
IN_FLIGHT, UNCOMMITTED = 50, 50


def _start(scene: Scene, pipeline: str) -> list[Worker]:
    """Start static members, which take their partitions back without waiting for the session of the dead."""
    return [scene.start(pipeline, {"kafka": {"group_instance_id": member}}) for member in MEMBERS]


@pytest.mark.alone
@pytest.mark.timeout(300)
@pytest.mark.parametrize("pipeline", ["precomputed", "children"])
def test_kills_at_random_moments_lose_nothing(scene: Scene, chance: random.Random, pipeline: str) -> None:
    """Every record is delivered at least once; what comes again was in flight or not yet committed."""
    waiting = threading.Event()
    with scene.feeding(rate=200) as feeder:
        for _ in range(ROUNDS):
            for worker in _start(scene, pipeline):
                worker.until_running()
                waiting.wait(chance.uniform(0.05, 1.0))
                assert worker.exit_code is None, worker.stderr
                worker.kill()
    last = _start(scene, pipeline)
    scene.until_finished()
    assert [worker.terminate() for worker in last] == [0, 0]
    duplicates = scene.check_delivered(feeder.count)
    print(f"{KILLS} kills, {feeder.count} records, {duplicates} duplicates")
    assert duplicates <= (IN_FLIGHT + UNCOMMITTED) * KILLS


def test_a_killed_worker_leaves_no_children(scene: Scene) -> None:
    """The children of a worker that dies without a word end too, and so do theirs."""
    scene.fill(4)
    worker = scene.start("stubborn")
    worker.until(lambda: len(worker.descendants()) >= 8, "its children and theirs ran")
    worker.kill()
    until(lambda: not worker.descendants(), 5.0, "its children to end")


def test_a_killed_worker_leaves_no_long_lived_children(scene: Scene) -> None:
    """Though they do not notice that their stdin has ended."""
    persistent = {"protocol": "lines", "args": ["-c", "exec sleep 1000"], "children": 2}
    worker = scene.start(
        "children", {"executor": {"binary_path": "sh", "mode": "persistent", "persistent": persistent}}
    )
    worker.until_running()
    worker.kill()
    until(lambda: not worker.descendants(), 5.0, "its children to end")


def test_children_that_read_their_input_end_with_a_killed_worker(scene: Scene) -> None:
    """Their pipes close when the worker dies, so `cat` and its like end by themselves."""
    worker = scene.start("children")
    with scene.feeding():
        worker.until(worker.descendants, "its children ran")
        worker.kill()
    until(lambda: not worker.descendants(), 5.0, "its children to end")
