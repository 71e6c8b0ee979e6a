"""Long-lived children in a whole worker on a real broker: of every kind, and when they are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.children import command
from support.kafka_io import read_all
from support.processes import programs, reapers
from support.scene import Scene
from support.worker import Worker

pytestmark = [pytest.mark.integration, pytest.mark.slow]

COUNT = 500
ECHO_C = """
#include <stdio.h>
int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int c; (c = getchar()) != EOF;) putchar(c);
    return 0;
}
"""
SHELL = 'while read -r line; do printf "%s\\n" "$line"; done'
PYTHON = "from drakkar_flow.worker import serve; serve(lambda task: task.stdin, max_in_flight=8)"


def in_c(directory: Path) -> list[str]:
    """A filter in C, built here."""
    (directory / "echo.c").write_text(ECHO_C)
    subprocess.run([shutil.which("cc") or "cc", "-o", directory / "echo", directory / "echo.c"], check=True)
    return [str(directory / "echo")]


KINDS: dict[str, tuple[str, Callable[[Path], list[str]]]] = {
    "cat": ("lines", lambda _: ["/bin/cat"]),
    "sh": ("lines", lambda _: ["/bin/sh", "-c", SHELL]),
    "c": ("lines", in_c),
    "python": ("worker", lambda _: [sys.executable, "-c", PYTHON]),
    "length-prefixed": ("worker", lambda _: command("good", "length-prefixed")),
}


def start(scene: Scene, program: list[str], protocol: str, **keys: Any) -> Worker:
    """A worker with two children of a program, as the pipeline of one-shot programs otherwise."""
    persistent = {"protocol": protocol, "args": program[1:], "restart_initial_s": 0.01, **keys}
    executor = {"binary_path": program[0], "mode": "persistent", "max_executors": 2, "persistent": persistent}
    return scene.start("children", {"executor": executor, "runtime": {"on_task_error": "dlq"}})


@pytest.mark.parametrize("kind", KINDS)
def test_every_record_is_answered_once_by_a_few_processes(scene: Scene, kind: str, tmp_path: Path) -> None:
    """Text lines in, the same out; at the end nothing is left."""
    protocol, program = KINDS[kind]
    scene.fill(COUNT)
    worker = start(scene, program(tmp_path), protocol)
    worker.until_running()
    scene.until_finished()
    assert len(programs(worker.pid)) == 2
    assert worker.metric("drakkar_executor_children_started_total") == 2
    assert worker.metric("drakkar_executor_duration_seconds_count") == COUNT
    [warden] = reapers(worker.pid)
    assert worker.terminate() == 0, worker.stderr
    assert sorted(int(message.value() or b"") for message in scene.delivered()) == list(range(COUNT))
    assert worker.descendants() == []
    assert not warden.is_running()


def test_killed_children_cost_their_own_requests_and_are_replaced(scene: Scene) -> None:
    """SIGKILL again and again while records come: each is delivered or a dead letter that says why."""
    worker = start(scene, command("slow_answers", number=0.002), "worker")
    worker.until_running()
    with scene.feeding() as feeder:
        for _ in range(5):
            ended = worker.metric("drakkar_executor_children_ended_total") or 0
            with suppress(psutil.Error, IndexError):
                os.kill(programs(worker.pid)[0].pid, signal.SIGKILL)
            worker.until(
                lambda ended=ended: (worker.metric("drakkar_executor_children_ended_total") or 0) > ended,  # type: ignore[misc]  # mypy knows no lambda with a default here
                "its end",
            )
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    letters = read_all(scene.bootstrap, scene.dlq)
    found = sorted(int(message.value() or b"") for message in [*scene.delivered(), *letters])
    assert found == list(range(feeder.count))
    assert len(letters) <= 5
    assert "was killed by SIGKILL" in worker.stderr


def test_a_crash_loop_loses_nothing(scene: Scene, tmp_path: Path) -> None:
    """While no child can be started tasks wait, and the worker says so; when the program works again they are done."""
    broken = tmp_path / "broken"
    script = f"test -e {broken} && {{ echo no licence >&2; exit 3; }}; exec cat"
    keys = {"breaker_failures": 3, "breaker_cooldown_s": 0.2, "answer": "marker"}
    worker = start(scene, ["/bin/sh", "-c", script], "lines", **keys)
    worker.until_running()
    broken.touch()
    for child in programs(worker.pid):
        child.kill()
    worker.until(lambda: worker.metric("drakkar_executor_breaker_state"), "the breaker opened")
    scene.fill(COUNT)
    worker.until(lambda: worker.metric("drakkar_executor_pool_waiting"), "tasks wait")
    broken.unlink()
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    assert sorted(int(message.value() or b"") for message in scene.delivered()) == list(range(COUNT))
    assert '"executor_breaker_open"' in worker.stderr
    assert "its stderr ended with: no licence" in worker.stderr
