"""Clusters: processes that share the partitions of one store, and start and stop together."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cluster import start_cluster, until_all_run
from support.scene import Scene
from support.worker import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

COUNTING = str(ROOT / "tests" / "chaos" / "pipelines" / "counting")


def test_one_process_told_to_stop_stops_all_and_nothing_repeats(scene: Scene) -> None:
    """Whichever it is: all drain, store and commit."""
    scene.fill(2000)
    for told in (0, 1):
        workers = start_cluster(scene, COUNTING, 2)
        until_all_run(workers)
        workers[told].until(lambda: scene.committed(), "a first commit")
        assert workers[told].terminate() == 0, workers[told].stderr
        assert [worker.wait() for worker in workers] == [0, 0], [worker.stderr for worker in workers]
    workers = start_cluster(scene, COUNTING, 2)
    until_all_run(workers)
    scene.until_finished()
    workers[0].terminate()
    assert [worker.wait() for worker in workers] == [0, 0]
    assert scene.check_delivered(2000) == 0
