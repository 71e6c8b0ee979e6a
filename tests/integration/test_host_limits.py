"""A host that is short of something: no record suffers for it."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.kafka_io import read_all
from support.scene import PIPELINES, Scene
from support.worker import ROOT, Worker

pytestmark = [pytest.mark.integration, pytest.mark.slow]

LIMITED = ROOT / "tests" / "support" / "limited.py"
COUNT = 800


def start(scene: Scene, limits: list[str], executor: dict[str, Any], pipeline: str = "children") -> Worker:
    """A worker under limits of the kernel."""
    config = scene.config({"executor": executor, "runtime": {"max_in_flight_records": 2000}})
    command = ("-m", "drakkar_flow.cli.main", "run", PIPELINES / f"{pipeline}.py", "--config", config)
    return scene.launch(LIMITED, *limits, *command)


def check_all_there(scene: Scene, worker: Worker, count: int = COUNT) -> None:
    """Every record has its output, and nothing else came of any."""
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    assert {int(message.value() or b"") for message in scene.delivered()} == set(range(count))
    assert read_all(scene.bootstrap, scene.dlq) == []
    assert worker.lines("executor_task_failed") == []


@pytest.mark.parametrize("limits", ["1024", "256:1024", "256"])
def test_f3_records_wait_for_descriptors(scene: Scene, limits: str) -> None:
    """More slots than the descriptors are enough for."""
    scene.fill(COUNT)
    executor = {"binary_path": "/bin/sh", "max_executors": 400, "backpressure_high_multiplier": 4}
    worker = start(scene, [f"nofile={limits}"], executor, "slow_cat")
    worker.until_running()
    check_all_there(scene, worker)


@pytest.fixture
def open_scene(scene: Scene) -> Iterator[Scene]:
    """A scene in a directory that any user may read."""
    with tempfile.TemporaryDirectory() as directory:
        scene.directory = Path(directory)
        scene.directory.chmod(0o777)
        yield scene
        for worker in scene.workers:
            worker.close()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="changes the user")
def test_f3_records_wait_for_processes(open_scene: Scene) -> None:
    """A user who may have fewer processes than there are slots."""
    scene = open_scene
    executor = {"binary_path": "/bin/sh", "max_executors": 200, "backpressure_high_multiplier": 4}
    worker = start(scene, ["nproc=300"], executor, "slow_cat")
    worker.until_running()
    assert [line["limit"] for line in worker.lines("host_limit_low")] == ["RLIMIT_NPROC"]
    with others_of_user(psutil.Process(worker.pid).uids().real, 200):
        scene.fill(COUNT)
        worker.until(lambda: worker.lines("host_shortage"), "it was short of processes")
        worker.until(lambda: "host_lacks_processes" in worker.get("/readyz")[1], "it said so")
        assert worker.get("/healthz")[0] == 200
    worker.until(lambda: worker.lines("host_shortage_over"), "it was over")
    check_all_there(scene, worker)
    assert len(worker.lines("host_shortage")) < 5


@contextmanager
def others_of_user(user: int, count: int) -> Iterator[None]:
    """Other processes of the same user."""
    script = f"for n in $(seq {count}); do sleep 1000 & done; echo; wait"
    command = ["setpriv", "--reuid", str(user), "--clear-groups", "--", "sh", "-c", script]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("mode", ["oneshot", "persistent"])
def test_g17_records_wait_for_a_program_that_is_away(scene: Scene, tmp_path: Path, mode: str) -> None:
    """It is renamed under load and comes back: every record has its output, none was tried twice for it."""
    program = tmp_path / "program"
    shutil.copy("/bin/cat", program)
    executor = {"binary_path": str(program), "max_executors": 8, "mode": mode}
    executor["persistent"] = {"protocol": "lines", "recycle_after_requests": 10, "breaker_cooldown_s": 0.5}
    worker = start(scene, [], executor)
    worker.until_running()
    with scene.feeding(500) as feeder:
        worker.until(lambda: worker.metric("drakkar_executor_duration_seconds_count"), "tasks were done")
        program.rename(tmp_path / "away")
        worker.until(lambda: "executor_unavailable" in worker.get("/readyz")[1], "it was not ready")
        assert "No such file" in worker.get("/readyz")[1]
        (tmp_path / "away").rename(program)
        worker.until(lambda: "executor_unavailable" not in worker.get("/readyz")[1], "it was ready again")
    check_all_there(scene, worker, feeder.count)
    assert len(worker.lines("executor_breaker_open")) == 1


def test_g17_a_program_that_is_missing_at_the_start_ends_it(scene: Scene) -> None:
    """Exit 2, and a line that names the key."""
    worker = start(scene, [], {"binary_path": "no-such-program"})
    assert worker.wait() == 2
    assert "executor.binary_path: no program 'no-such-program'" in worker.stderr


def test_f3_a_start_that_the_host_has_no_room_for_says_so(scene: Scene) -> None:
    """Exit 1, for a supervisor tries again; no stack."""
    worker = start(scene, ["nofile=9"], {})
    assert worker.wait() == 1
    assert "host: lacks descriptors" in worker.stderr
    assert "Traceback" not in worker.stderr


def test_f3_programs_get_the_limit_that_the_worker_was_started_with(scene: Scene) -> None:
    """The worker raises its own; theirs is what a program expects."""
    scene.fill(1)
    executor = {"binary_path": "/bin/sh", "max_executors": 400}
    config = scene.config({"executor": executor})
    command = ("-m", "drakkar_flow.cli.main", "run", PIPELINES / "scripts.py", "--config", config)
    environment = {"SCRIPT": "ulimit -S -n; ulimit -H -n"}
    worker = scene.launch(LIMITED, "nofile=256:8000", *command, environment=environment)
    worker.until_running()
    assert resource.prlimit(worker.pid, resource.RLIMIT_NOFILE) == (8000, 8000)
    scene.until_finished()
    assert [message.value() for message in scene.delivered()] == [b"256\n8000\n"]
    assert worker.lines("host_limit_low") == []
    assert worker.terminate() == 0, worker.stderr
