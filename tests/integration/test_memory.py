"""R13: a backlog passes through a worker, it does not pile up in it."""

from __future__ import annotations

import pytest

from support.scene import Scene

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

MIB = 1024 * 1024
DEFAULTS = {"runtime": {"max_in_flight_records": 10_000, "commit_interval_s": 0.5, "commit_max_offsets": 1000}}


BACKLOG = 400_000
MAX_GROWTH = 12 * MIB
"""63 bytes for each record of the second half."""


def test_the_memory_of_a_worker_does_not_grow_with_its_backlog(scene: Scene) -> None:
    """While the backlog passes, the second half takes no more memory than the first."""
    scene.fill(BACKLOG)
    worker = scene.start("precomputed", DEFAULTS)
    worker.until_running()
    start = worker.resident_bytes()
    halves: list[list[int]] = [[], []]

    def finished() -> bool:
        done = sum(scene.committed().values())
        halves[done > BACKLOG // 2].append(worker.resident_bytes())
        return done == BACKLOG

    worker.until(finished, "all was committed", timeout_s=120)
    first, second = max(halves[0]), max(halves[1])
    print(f"start {start // MIB} MiB, first half {first // MIB}, second half {second // MIB}, {sum(map(len, halves))}")
    assert worker.terminate() == 0, worker.stderr
    assert len(halves[0]) > 3
    assert len(halves[1]) > 3
    assert second <= first + MAX_GROWTH
    assert second <= start + 256 * MIB
    assert scene.check_delivered(BACKLOG) == 0
