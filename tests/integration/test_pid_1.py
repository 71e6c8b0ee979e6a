"""A worker that is PID 1 of its container: orphans are reaped, signals arrive, the exit code is the worker's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import psutil
import pytest

from support.scene import PIPELINES, Scene
from support.until import until
from support.worker import Worker

IN_CONTAINER = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable]
BECOME = f"import os, sys; os.execvp('unshare', {IN_CONTAINER!r} + sys.argv[1:])"


def can_isolate() -> bool:
    """Whether this user may make a namespace of processes."""
    return shutil.which("unshare") is not None and os.geteuid() == 0 and _works()


def _works() -> bool:
    return subprocess.run([*IN_CONTAINER[:-1], "true"], check=False, capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(not can_isolate(), reason="may not make a namespace of processes"),
]

COUNT = 200
ORPHANS = {
    "in its group": "(sleep 0.05 &); echo hi",
    "in a session of its own": "(setsid sleep 0.05 &); echo hi",
}
RUN = ("-m", "drakkar_flow.cli.main", "run")
APP = """
import sys
from drakkar_flow import StreamingRunner
from {pipeline} import flow
{threads}
sys.exit(StreamingRunner.from_yaml(flow, sys.argv[1]).run())
"""
THREADS = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"


def init_of(worker: Worker) -> psutil.Process:
    """PID 1 of the worker's namespace."""
    return until(lambda: psutil.Process(worker.pid).children(), what="PID 1")[0]


def zombies(worker: Worker) -> int:
    """How many processes of the namespace are dead and not reaped."""
    return sum(map(is_zombie, init_of(worker).children(recursive=True)))


def is_zombie(process: psutil.Process) -> bool:
    """Whether a process is dead and not reaped; one that is gone was reaped just now."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def config(scene: Scene, mode: str, script: str) -> str:
    """A configuration in which every task runs the script."""
    executor: dict[str, object] = {"binary_path": "/bin/sh", "mode": mode}
    executor["persistent"] = {
        "protocol": "lines",
        "args": ["-c", f"while read -r line; do {script}; done"],
    }
    return str(scene.config({"executor": executor}))


@pytest.mark.parametrize("how", ORPHANS)
@pytest.mark.parametrize("mode", ["oneshot", "persistent"])
def test_f4_orphans_are_reaped(scene: Scene, mode: str, how: str) -> None:
    """Whatever a program leaves behind; SIGTERM to PID 1 drains."""
    scene.fill(COUNT)
    pipeline = PIPELINES / ("scripts.py" if mode == "oneshot" else "children.py")
    file = config(scene, mode, ORPHANS[how])
    worker = scene.launch("-c", BECOME, *RUN, pipeline, "--config", file, environment={"SCRIPT": ORPHANS[how]})
    worker.until_running()
    scene.until_finished()
    until(lambda: zombies(worker) == 0, what="no zombies")
    os.kill(init_of(worker).pid, signal.SIGTERM)
    assert worker.wait() == 0, worker.stderr
    assert len(scene.delivered()) == COUNT
    assert worker.lines("drakkar_stopped")


@pytest.mark.parametrize("threads", ["", THREADS], ids=["alone", "with threads"])
def test_f4_a_program_of_ones_own_is_no_init_either(scene: Scene, threads: str) -> None:
    """StreamingRunner in a script, also where the script has threads already."""
    scene.fill(COUNT)
    script = scene.directory / "main.py"
    script.write_text(APP.format(pipeline="scripts", threads=threads))
    file = config(scene, "oneshot", "")
    environment = {"SCRIPT": ORPHANS["in its group"], "PYTHONPATH": str(PIPELINES)}
    worker = scene.launch("-c", BECOME, script, file, environment=environment)
    worker.until_running()
    scene.until_finished()
    until(lambda: zombies(worker) == 0, what="no zombies")
    os.kill(init_of(worker).pid, signal.SIGTERM)
    assert worker.wait() == 0, worker.stderr
    assert len(scene.delivered()) == COUNT


def test_f4_the_end_of_the_worker_is_the_end_of_pid_1(scene: Scene) -> None:
    """With its exit code, as a shell tells it."""
    worker = scene.launch("-c", BECOME, *RUN, PIPELINES / "children.py", "--config", str(scene.config()))
    worker.until_running()
    [inner] = [child for child in init_of(worker).children() if "drakkar_flow.cli.main" in " ".join(child.cmdline())]
    inner.kill()
    assert worker.wait() == 128 + signal.SIGKILL


def test_f4_a_worker_that_fails_at_its_start_says_so_from_pid_1(scene: Scene) -> None:
    """Exit 2 for a configuration that can't work."""
    file = scene.config({"executor": {"binary_path": "no-such-program"}})
    worker = scene.launch("-c", BECOME, *RUN, PIPELINES / "children.py", "--config", str(file))
    assert worker.wait() == 2
