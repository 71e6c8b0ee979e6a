"""State across partitions under kills, stops and other numbers of processes: each record counts once."""

from __future__ import annotations

import random

import pytest

from chaos.across_drill import AcrossDrill
from chaos.drill import amount
from support.cluster import until_all_run
from support.scene import Scene
from support.worker import Worker

pytestmark = [pytest.mark.integration, pytest.mark.timeout(14_400)]

Results = list[tuple[object, ...]]


def test_r1_a_cluster_that_is_killed_loses_nothing_and_counts_each_record_once(
    scene: Scene, chance: random.Random, results: Results
) -> None:
    """One of three processes is killed, all end, and all are started again."""
    drill = AcrossDrill(scene, amount("RECORDS", 3_000))
    kills = amount("KILLS", 3)
    for _ in range(kills):
        drill.kill_one_at_random(drill.start_cluster(3), chance)
    workers = drill.start_cluster(3)
    _finish(drill, workers)
    drill.stop_all(workers, chance.choice(workers))
    results.append(drill.finished("R1 cluster of 3, across", f"{kills} SIGKILL of one, at any moment"))


def test_r2_a_cluster_of_any_size_that_is_stopped_repeats_nothing(
    scene: Scene, chance: random.Random, results: Results
) -> None:
    """From 1 to 2 to 3 processes and back to 1: positions and state move along."""
    drill = AcrossDrill(scene, amount("RECORDS", 3_000))
    sizes = [1, 2, 3] * max(1, amount("STOPS", 3) // 3)
    for size in sizes:
        workers = drill.start_cluster(size)
        before = sum(scene.committed().values())
        until_all_run(workers)
        if before < drill.records:
            workers[0].until(lambda before=before: sum(scene.committed().values()) > before, "they read")  # type: ignore[misc]
        drill.stop_all(workers, chance.choice(workers))
    workers = drill.start_cluster(1)
    _finish(drill, workers)
    drill.stop_all(workers, workers[0])
    assert scene.check_delivered(drill.records) == 0
    results.append(drill.finished("R2 cluster of 1, 2, 3, across", f"{len(sizes)} SIGTERM to one"))


def test_r3_kills_of_all_and_other_sizes_leave_state_across_partitions_exact(
    scene: Scene, chance: random.Random, results: Results
) -> None:
    """All processes are killed at the same moment, and as many as chance wants begin again."""
    drill = AcrossDrill(scene, amount("RECORDS", 3_000))
    kills = amount("KILLS", 3)
    for _ in range(kills):
        drill.kill_all_at_random(drill.start_cluster(chance.choice([1, 2, 3])), chance)
    workers = drill.start_cluster(2)
    _finish(drill, workers)
    drill.stop_all(workers, workers[1])
    results.append(drill.finished("R3 cluster of 1, 2, 3, across", f"{kills} SIGKILL of all, at any moment"))


def _finish(drill: AcrossDrill, workers: list[Worker]) -> None:
    for worker in workers:
        drill.until_finished(worker)
