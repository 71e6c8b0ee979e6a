"""Fixed mode under kills and stops: nothing is lost, and each record counts once."""

from __future__ import annotations

import random

import pytest

from chaos.drill import Drill, amount
from support.scene import Scene

pytestmark = [pytest.mark.integration, pytest.mark.timeout(7200)]


def test_r1_killed_workers_lose_nothing_and_count_each_record_once(scene: Scene, chance: random.Random) -> None:
    """What a row on disk calls finished is delivered, in the state, and never delivered again."""
    drill = Drill(scene, amount("RECORDS", 3_000))
    for _ in range(amount("KILLS", 4)):
        drill.kill_at_random(drill.start(), chance)
    worker = drill.start()
    drill.until_finished(worker)
    drill.stop(worker)
    scene.check_delivered(drill.records)
    assert drill.totals() == drill.expected()


def test_r2_stopped_workers_repeat_nothing(scene: Scene, chance: random.Random) -> None:
    """A stop finishes what is in flight, and its row is on disk before the process ends."""
    drill = Drill(scene, amount("RECORDS", 3_000))
    for _ in range(amount("STOPS", 2)):
        worker = drill.start()
        worker.until_running()
        worker.until(lambda: chance.random() < 0.02, "a random moment")
        drill.stop(worker)
    worker = drill.start()
    drill.until_finished(worker)
    drill.stop(worker)
    assert scene.check_delivered(drill.records) == 0
    assert drill.totals() == drill.expected()
