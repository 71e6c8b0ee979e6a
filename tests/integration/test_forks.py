"""Hooks that make processes: they work, end when they should, and have nothing of the worker's."""

from __future__ import annotations

import signal

import psutil
import pytest

from support.scene import Scene
from support.until import until
from support.worker import Worker

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def start(scene: Scene, way: str, where: str = "hook") -> Worker:
    """A worker whose hook forks in some way, for one record."""
    scene.fill(1)
    worker = scene.start("forking", {"runtime": {"stuck_after_s": 600}}, {"FORKING": f"{way}@{where}"})
    worker.until_running()
    return worker


@pytest.mark.parametrize("where", ["hook", "offload"])
@pytest.mark.parametrize("way", ["fork", "terminated", "executor", "spawn", "forkserver", "executor_spawn", "preexec"])
def test_f9_pools_of_processes_work_in_hooks(scene: Scene, way: str, where: str) -> None:
    """Thirty of them one after the other; the worker drains afterwards."""
    worker = start(scene, way, where)
    scene.until_finished()
    assert [message.value() for message in scene.delivered()] == [b"done"]
    assert worker.terminate() == 0, worker.stderr


@pytest.mark.parametrize("where", ["hook", "offload"])
@pytest.mark.parametrize("way", ["returning", "exiting"])
def test_f9_a_forked_child_that_comes_back_ends(scene: Scene, way: str, where: str) -> None:
    """It commits and writes nothing, and closes nothing of the worker's, which goes on."""
    worker = start(scene, way, where)
    scene.until_finished()
    assert [message.value() for message in scene.delivered()] == [b"done"]
    assert not worker.lines("drakkar_failed")
    assert worker.terminate() == 0, worker.stderr
    assert len(worker.lines("drakkar_stopped")) == 1


def test_f9_a_forked_child_has_default_signals_and_no_port(scene: Scene) -> None:
    """The metrics port is free as soon as the worker is gone."""
    worker = start(scene, "looking")
    scene.until_finished()
    assert [message.value() for message in scene.delivered()] == [b"done"]
    assert worker.terminate() == 0, worker.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_f9_forked_children_end_with_their_worker(scene: Scene, number: int) -> None:
    """Also those that are busy, whatever ends it."""
    worker = start(scene, "busy")
    until(lambda: len(psutil.Process(worker.pid).children()) >= 2, what="the pool")
    children = psutil.Process(worker.pid).children()
    worker.terminate(number, timeout_s=60)
    until(lambda: not any(child.is_running() for child in children), what="the end of the pool")


@pytest.mark.parametrize("way", ["returning", "exiting"])
def test_f9_a_child_that_comes_back_to_the_engine_ends(scene: Scene, way: str) -> None:
    """It writes, commits and closes nothing."""
    scene.fill(3)
    worker = scene.start("forking_map", environment={"FORKING": way})
    worker.until_running()
    scene.until_finished()
    assert [message.value() for message in scene.delivered()] == [b"1"] * 3
    assert worker.terminate() == 0, worker.stderr
    assert len(worker.lines("drakkar_stopped")) == 1
