"""Fixed mode under kills and stops: nothing is lost, and each record counts once."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from chaos.drill import Drill, amount
from support.kafka_io import MakeCluster
from support.scene import Scene

_SIZE = 6 << 20

Results = list[tuple[object, ...]]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MiB."""
    point = tmp_path / "disk"
    point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(point)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a disk needs root")
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


pytestmark = [pytest.mark.integration, pytest.mark.timeout(7200)]


def test_r1_killed_workers_lose_nothing_and_count_each_record_once(
    scene: Scene, chance: random.Random, results: Results
) -> None:
    """What a row on disk calls finished is delivered, in the state, and never delivered again."""
    drill = Drill(scene, amount("RECORDS", 3_000))
    kills = amount("KILLS", 4)
    for _ in range(kills):
        drill.kill_at_random(drill.start(), chance)
    worker = drill.start()
    drill.until_finished(worker)
    drill.stop(worker)
    results.append(drill.finished("R1 fixed mode", f"{kills} SIGKILL at any moment"))


def test_r2_stopped_workers_repeat_nothing(scene: Scene, chance: random.Random, results: Results) -> None:
    """A stop finishes what is in flight, and its row is on disk before the process ends."""
    drill = Drill(scene, amount("RECORDS", 3_000))
    stops = amount("STOPS", 2)
    for _ in range(stops):
        worker = drill.start()
        worker.until_running()
        worker.until(lambda: chance.random() < 0.02, "a random moment")
        drill.stop(worker)
    worker = drill.start()
    drill.until_finished(worker)
    drill.stop(worker)
    assert scene.check_delivered(drill.records) == 0
    results.append(drill.finished("R2 fixed mode", f"{stops} SIGTERM at any moment"))


def test_r7_a_full_disk_ends_the_flow_and_loses_nothing(scene: Scene, small_disk: Path, results: Results) -> None:
    """It says which directory; with room again the next start goes on."""
    drill = Drill(scene, amount("RECORDS", 3_000), small_disk / "store")
    worker = drill.start()
    worker.until(lambda: scene.committed(), "a first commit")
    filler = os.open(small_disk / "filler", os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while True:
            os.write(filler, bytes(4096))
    os.close(filler)
    assert worker.wait(60) == 1
    assert "recovery store" in worker.stderr
    assert "can't be written: database or disk is full" in worker.stderr
    (small_disk / "filler").unlink()
    drill.check()
    worker = drill.start()
    drill.until_finished(worker)
    drill.stop(worker)
    results.append(drill.finished("R7 fixed mode", "the store's disk is full"))


@pytest.mark.slow
def test_r3_a_broker_that_is_killed_and_restarted_changes_nothing(
    make_cluster: MakeCluster, tmp_path: Path, results: Results
) -> None:
    """The flow waits, goes on where it was, and repeats nothing."""
    cluster = make_cluster()
    scene = Scene(cluster.bootstrap, tmp_path)
    try:
        drill = Drill(scene, amount("RECORDS", 3_000))
        worker = drill.start()
        restarts = amount("RESTARTS", 2)
        for _ in range(restarts):
            before = sum(scene.committed().values())
            worker.until(lambda before=before: sum(scene.committed().values()) > before, "it committed")  # type: ignore[misc]  # mypy knows no lambda with a default here
            cluster.kill_broker(1)
            worker.until(lambda: worker.metric("drakkar_broker_up") == 0, "it noticed")
            cluster.start_broker(1)
            scene.broker_restarted()
            worker.until(lambda: worker.metric("drakkar_broker_up") == 1, "it was connected", timeout_s=60)
        drill.until_finished(worker)
        drill.stop(worker)
        results.append(drill.finished("R3 fixed mode", f"{restarts} SIGKILL of the only broker"))
    finally:
        scene.close()
