"""Kills at each point of start, rendezvous, load, hello, snapshot, commit and stop (recovery.md §9.10)."""

from __future__ import annotations

import random
import signal

import pytest

from chaos.drill import Drill, amount
from chaos.injected import CLUSTER_POINTS, POINTS, STOP_POINTS, ending_at
from support.cluster import until_all_run
from support.scene import Scene

pytestmark = [pytest.mark.integration, pytest.mark.timeout(7200)]

Results = list[tuple[object, ...]]

_SHARE = 300  # records that wait for each life


@pytest.mark.parametrize("processes", [1, 2], ids=["fixed", "cluster"])
def test_r1_a_process_that_dies_at_any_point_loses_nothing(
    scene: Scene, chance: random.Random, results: Results, processes: int
) -> None:
    """Each point in turn, of each process; the next life begins from what it left."""
    points = [*POINTS, *STOP_POINTS, *(CLUSTER_POINTS if processes > 1 else ())]
    cases = [(point, process) for point in points for process in range(processes)] * amount("ROUNDS", 1)
    chance.shuffle(cases)
    cases = cases[: amount("POINTS", 5)]
    drill = Drill(scene)
    kills = 0
    for point, process in cases:
        drill.write(_SHARE)
        drill.note(f"process {process} dies when {point}")
        workers = drill.start(processes, {process: ending_at(point)}, start_timeout_s=30)
        if point in STOP_POINTS:
            until_all_run(workers)
            workers[process].send(signal.SIGTERM)
        kills += drill.kill_at_point(workers, workers[process])
    drill.write(_SHARE)
    drill.finish(drill.start(processes))
    assert kills == len(cases), "not all came to their points"
    name = "fixed mode" if processes == 1 else f"cluster of {processes}"
    reached = len({point for point, _ in cases})
    results.append(drill.finished(f"R1 {name}, points", f"{kills} SIGKILL at {reached} points of a life"))


def test_a_first_process_that_dies_while_the_others_start_is_no_wrong_setting(scene: Scene) -> None:
    """Its lock is free then; exit code 2 would keep a supervisor from starting all again."""
    drill = Drill(scene)
    workers = drill.start(2, {0: ending_at("the store was shared")})
    assert drill.kill_at_point(workers, workers[0])
    assert workers[1].wait() == 1
    assert "process 0 (127.0.0.1:" in workers[1].stderr
    assert "ended before all processes had started" in workers[1].stderr
