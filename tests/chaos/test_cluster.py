"""Clusters under kills, stops and other numbers of processes: nothing is lost, and each record counts once."""

from __future__ import annotations

import random

import pytest

from chaos.across_drill import AcrossDrill
from chaos.drill import MEETING_S, Drill, amount
from support.cluster import until_all_run
from support.scene import Scene

pytestmark = [pytest.mark.integration, pytest.mark.timeout(14_400)]

Results = list[tuple[object, ...]]

BOTH = pytest.mark.parametrize("make", [Drill, AcrossDrill], ids=["by-partition", "across"])


@BOTH
def test_r1_a_cluster_that_is_killed_loses_nothing_and_counts_each_record_once(
    scene: Scene, chance: random.Random, results: Results, make: type[Drill]
) -> None:
    """One of three processes is killed, all end, and all are started again."""
    kills = amount("KILLS", 3)
    drill = make(scene)
    share = amount("RECORDS", 3_000) // (kills + 1)
    for _ in range(kills):
        drill.write(share)
        drill.kill_at_random(drill.start(3, start_timeout_s=MEETING_S), chance)
    drill.write(share)
    drill.finish(drill.start(3))
    results.append(drill.finished(f"R1 cluster of 3{_kind(make)}", f"{drill.kills} SIGKILL of one, at any moment"))


@BOTH
def test_r2_a_cluster_of_any_size_that_is_stopped_repeats_nothing(
    scene: Scene, chance: random.Random, results: Results, make: type[Drill]
) -> None:
    """From 1 to 2 to 3 processes and back to 1: positions and state move along."""
    drill = make(scene)
    drill.write(amount("RECORDS", 3_000))
    sizes = [1, 2, 3] * max(1, amount("STOPS", 3) // 3)
    for size in sizes:
        workers = drill.start(size)
        before = sum(scene.committed().values())
        until_all_run(workers)
        if before < drill.records:
            workers[0].until(lambda before=before: sum(scene.committed().values()) > before, "they read")  # type: ignore[misc]
        drill.stop(workers, chance.choice(workers))
    drill.finish(drill.start())
    assert drill.repeated == 0
    results.append(drill.finished(f"R2 cluster of 1, 2, 3{_kind(make)}", f"{len(sizes)} SIGTERM to one"))


def test_r1_kills_of_all_and_other_sizes_leave_state_across_partitions_exact(
    scene: Scene, chance: random.Random, results: Results
) -> None:
    """All processes are killed at the same moment, and as many as chance wants begin again."""
    kills = amount("KILLS", 3)
    drill = AcrossDrill(scene)
    share = amount("RECORDS", 3_000) // (kills + 1)
    for _ in range(kills):
        drill.write(share)
        drill.kill_all(drill.start(chance.choice([1, 2, 3])), chance)
    drill.write(share)
    drill.finish(drill.start(2))
    results.append(drill.finished("R1 cluster of 1, 2, 3, across", f"{drill.kills} SIGKILL of all, at any moment"))


def _kind(make: type[Drill]) -> str:
    return ", across" if make is AcrossDrill else ""
