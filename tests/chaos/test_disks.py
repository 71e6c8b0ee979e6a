"""R7: a store's disk that is full or read-only ends the flow with one clear line and loses nothing."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from chaos.drill import Drill, amount
from support.scene import Scene

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

Results = list[tuple[object, ...]]

PROCESSES = pytest.mark.parametrize("processes", [1, 2], ids=["fixed", "cluster"])
LONG_CLUSTER = pytest.mark.parametrize(
    "processes", [1, pytest.param(2, marks=pytest.mark.long)], ids=["fixed", "cluster"]
)


def fill(disk: Path) -> Path:
    """Leave no room on a disk; returns the file that takes it."""
    filler = disk / "filler"
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while True:
            os.write(descriptor, bytes(4096))
    os.close(descriptor)
    return filler


@PROCESSES
def test_r7_a_full_disk_ends_the_flow_and_loses_nothing(
    scene: Scene, small_disk: Path, results: Results, processes: int
) -> None:
    """It says which directory; with room again the next start goes on."""
    drill = Drill(scene, amount("RECORDS", 3_000), small_disk / "store")
    workers = drill.start(processes)
    workers[0].until(scene.committed, "a first commit", 120)
    filler = fill(small_disk)
    assert [worker.wait(120) for worker in workers] == [1] * processes
    full = "No space left on device" if processes > 1 else "database or disk is full"
    assert f"the recovery store {drill.store} can't be written: {full}" in workers[0].stderr
    assert not any("socket.send() raised" in worker.stderr for worker in workers), "words of a stop never ended"
    drill.check()
    workers = drill.start(processes)
    assert [worker.wait(120) for worker in workers] == [1] * processes
    assert "can't be written: No space left on device" in workers[0].stderr
    assert all("Traceback" not in worker.stderr for worker in workers)
    filler.unlink()
    drill.finish(drill.start(processes))
    name = "fixed mode" if processes == 1 else f"cluster of {processes}"
    results.append(drill.finished(f"R7 {name}, full disk", "the store's disk is full, while it runs and at a start"))


@LONG_CLUSTER
def test_r7_a_read_only_disk_refuses_the_start(
    scene: Scene, small_disk: Path, results: Results, processes: int
) -> None:
    """As a kernel does after an error of the disk; the first process says why, the others that it ended."""
    records = amount("RECORDS", 3_000)
    drill = Drill(scene, records // 2, small_disk / "store")
    drill.finish(drill.start(processes))
    drill.write(records // 2)
    _remount(small_disk, "ro")
    workers = drill.start(processes)
    assert [worker.wait(120) for worker in workers] == [1] * processes
    assert f"{drill.store}" in workers[0].stderr
    assert "can't be written: Read-only file system" in workers[0].stderr
    assert all("Traceback" not in worker.stderr for worker in workers)
    _remount(small_disk, "rw")
    drill.finish(drill.start(processes))
    assert drill.repeated == 0
    name = "fixed mode" if processes == 1 else f"cluster of {processes}"
    results.append(drill.finished(f"R7 {name}, read-only disk", "the store's disk is read-only at a start"))


def _remount(disk: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True)
