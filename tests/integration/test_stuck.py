"""What stands still is told so that its culprit is found: the program's process, the sink's line, the hook's line."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.kafka_io import produce
from support.scene import Scene
from support.worker import Worker

pytestmark = pytest.mark.integration

QUICK = {"stuck_after_s": 1.0, "blocked_after_s": 1.0}


@pytest.fixture
def deaf() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def _stalled(worker: Worker) -> dict[str, Any]:
    """The line about the partition that stands still."""
    worker.until(lambda: worker.lines("partition_stalled"), "the stall was told", 60)
    (line,) = worker.lines("partition_stalled")
    return line


def _pages(worker: Worker) -> tuple[int, int, list[str]]:
    """The status of /healthz, that of /readyz, and its reasons."""
    (alive, _), (ready, content) = worker.get("/healthz"), worker.get("/readyz")
    return alive, ready, json.loads(content)["reasons"]


def test_a_program_that_hangs_is_told_by_its_process(scene: Scene) -> None:
    """Whoever reads the line knows which process to look at, for which task of which record, and for how long."""
    worker = scene.start("telling", {"executor": {"binary_path": "sh", "task_timeout_seconds": 600}, "runtime": QUICK})
    produce(scene.bootstrap, scene.source, ["exec sleep 600"], partition=1)
    line = _stalled(worker)
    assert (line["partition"], line["offset"], line["waits_for"]) == (1, 0, "execute")
    where = line["stacks"][f"execute {scene.source}:1:0"]
    (child,) = [each for each in worker.descendants() if each.name() == "sleep"]
    assert where.startswith(f"task script-0, attempt 1: runs as pid {child.pid} for ")
    assert _pages(worker) == (200, 503, [f"partition_{scene.source}:1_stalled"])
    psutil.Process(child.pid).kill()
    worker.until(lambda: worker.lines("partition_moves_again"), "its end was told", 60)
    scene.until_finished()
    assert _pages(worker) == (200, 200, [])
    assert worker.terminate() == 0, worker.stderr


def test_a_long_lived_child_that_hangs_is_told_by_its_process(scene: Scene, tmp_path: Path) -> None:
    """The same for a child that has several tasks."""
    script = tmp_path / "deaf.py"
    script.write_text("import sys, time\nfor line in sys.stdin:\n    time.sleep(600)\n")
    settings = {"mode": "persistent", "binary_path": sys.executable, "task_timeout_seconds": 600}
    settings["persistent"] = {"args": [str(script)], "protocol": "lines", "children": 1}
    worker = scene.start("children", {"executor": settings, "runtime": QUICK})
    produce(scene.bootstrap, scene.source, ["1"], partition=1)
    line = _stalled(worker)
    (child,) = [each for each in worker.descendants() if str(script) in each.cmdline()]
    assert f"child 0, pid {child.pid}, has it for " in line["stacks"][f"execute {scene.source}:1:0"]


def test_a_write_that_does_not_return_is_told_with_its_stack(scene: Scene, deaf: str) -> None:
    """Which sink, which record, and the line of the sink that waits."""
    sinks = {"kafka": {}, "http": {"hook": {"url": deaf, "timeout_seconds": 600, "delivery_timeout_s": 600}}}
    worker = scene.start("posting", {"sinks": sinks, "runtime": QUICK})
    produce(scene.bootstrap, scene.source, ["x"], partition=1)
    line = _stalled(worker)
    assert (line["partition"], line["offset"], line["waits_for"]) == (1, 0, "sink-http-hook")
    stack = line["stacks"][f"sink-http-hook {scene.source}:1:0"]
    assert "in HttpSink.write_batch" in stack
    assert _pages(worker) == (200, 503, [f"partition_{scene.source}:1_stalled"])


def test_a_blocked_loop_is_told_by_both_lines_and_ends_liveness(scene: Scene, tmp_path: Path) -> None:
    """The partition's line says that the event loop does not answer, the loop's has the line that blocks it."""
    gate = tmp_path / "gate"
    worker = scene.start("waiting", {"runtime": {**QUICK, "stuck_after_s": 2.0}}, {"GATE": str(gate), "HOW": "block"})
    produce(scene.bootstrap, scene.source, ["wait"], partition=1)
    line = _stalled(worker)
    assert (line["partition"], line["waits_for"]) == (1, "the event loop")
    assert "in wait" in line["stacks"]["loop thread"]
    worker.until(lambda: worker.get("/healthz")[0] == 503, "liveness ended", 60)
    assert _pages(worker)[1:] == (503, ["loop_stalled", f"partition_{scene.source}:1_stalled"])
    gate.touch()
    scene.until_finished()
    worker.until(lambda: _pages(worker) == (200, 200, []), "it was well again", 60)
    assert worker.terminate() == 0, worker.stderr


def test_a_drain_that_runs_out_of_time_names_what_it_left(scene: Scene) -> None:
    """How many records, and the first of each partition, which is where somebody has to look."""
    settings = {"binary_path": "sh", "task_timeout_seconds": 600, "drain_timeout_seconds": 1}
    worker = scene.start("telling", {"executor": settings})
    produce(scene.bootstrap, scene.source, ["echo 1", "exec sleep 600", "echo 2"], partition=1)
    worker.until(lambda: any(each.name() == "sleep" for each in worker.descendants()), "the program ran", 60)
    worker.until(lambda: len(scene.delivered()) == 2, "the others were done", 60)
    assert worker.terminate() == 1
    (line,) = worker.lines("drain_timeout")
    assert (line["unfinished"], line["oldest"]) == (1, [f"{scene.source}:1:1"])
