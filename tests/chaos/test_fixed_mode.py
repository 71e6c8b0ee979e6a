"""Fixed mode under kills and stops: nothing is lost, and each record counts once."""

from __future__ import annotations

import random

import pytest

from chaos.drill import MEETING_S, Drill, amount
from chaos.truths import COUNTING, FLUSHING, HANDLING, MINUTES, Truth
from support.scene import Scene

Results = list[tuple[object, ...]]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(7200)]

TRUTHS = [COUNTING, FLUSHING, HANDLING, MINUTES]
WHAT = {COUNTING.name: "", FLUSHING.name: ", timers, dedupe", HANDLING.name: ", handler", MINUTES.name: ", windows"}


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: truth.name)
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.long)], ids=["fixed", "cluster"])
def test_r1_killed_workers_lose_nothing_and_count_each_record_once(
    scene: Scene, chance: random.Random, results: Results, truth: Truth, processes: int
) -> None:
    """What a row on disk calls finished is delivered, in the state, and never delivered again."""
    kills = amount("KILLS", 2)
    drill = Drill(scene, truth=truth)
    share = amount("RECORDS", 3_000) // (kills + 1)
    for _ in range(kills):
        drill.write(share)
        drill.kill_at_random(drill.start(processes, start_timeout_s=MEETING_S), chance)
    drill.write(share)
    drill.finish(drill.start(processes))
    mode = "fixed mode" if processes == 1 else "cluster of 2"
    results.append(drill.finished(f"R1 {mode}{WHAT[truth.name]}", f"{drill.kills} SIGKILL at any moment"))


@pytest.mark.parametrize(
    "truth",
    [COUNTING, *(pytest.param(truth, marks=pytest.mark.long) for truth in TRUTHS[1:])],
    ids=lambda truth: truth.name,
)
def test_r2_stopped_workers_repeat_nothing(scene: Scene, chance: random.Random, results: Results, truth: Truth) -> None:
    """A stop finishes what is in flight, and its row is on disk before the process ends."""
    stops = amount("STOPS", 2)
    drill = Drill(scene, truth=truth)
    share = amount("RECORDS", 3_000) // (stops + 1)
    for _ in range(stops):
        drill.write(share)
        (worker,) = drill.start()
        worker.until_running()
        worker.until(lambda: chance.random() < 0.02, "a random moment")
        drill.stop([worker])
    drill.write(share)
    drill.finish(drill.start())
    assert drill.repeated == 0
    results.append(drill.finished(f"R2 fixed mode{WHAT[truth.name]}", f"{stops} SIGTERM at any moment"))
