"""R1: whatever moment a worker is killed at, nothing is lost."""

from __future__ import annotations

import random
import threading

import pytest

from support.scene import Scene

pytestmark = [pytest.mark.integration, pytest.mark.slow]

KILLS = 20
IN_FLIGHT, UNCOMMITTED = 50, 50
# Static membership: a restarted worker takes its partitions back without waiting for the dead one's session.
STATIC = {"kafka": {"session_timeout_ms": 6000, "heartbeat_interval_ms": 500, "group_instance_id": "the-worker"}}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("pipeline", ["precomputed", "children"])
def test_kills_at_random_moments_lose_nothing(scene: Scene, chance: random.Random, pipeline: str) -> None:
    """Every record is delivered at least once; what comes again was in flight or not yet committed."""
    waiting = threading.Event()
    with scene.feeding(rate=200) as feeder:
        for _ in range(KILLS):
            worker = scene.start(pipeline, STATIC)
            worker.until_running()
            waiting.wait(chance.uniform(0.05, 2.0))
            assert worker.exit_code is None, worker.stderr
            worker.kill()
    last = scene.start(pipeline, STATIC)
    scene.until_finished()
    assert last.terminate() == 0
    duplicates = scene.check_delivered(feeder.count)
    print(f"{KILLS} kills, {feeder.count} records, {duplicates} duplicates")
    assert duplicates <= (IN_FLIGHT + UNCOMMITTED) * KILLS
