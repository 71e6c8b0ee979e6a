"""What handlers give to executors and get from them, in a whole worker on a real broker."""

from __future__ import annotations

import gzip
import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest

from support.kafka_io import produce, read_all
from support.scene import PIPELINES, Scene
from support.worker import Worker

pytestmark = [pytest.mark.integration]

UPPER = "from drakkar_flow.worker import serve; serve(lambda task: task.stdin.upper())"
CONFIG: dict[str, dict[str, Any]] = {
    "executor": {
        "binary_path": sys.executable,
        "mode": "persistent",
        "persistent": {"args": ["-c", UPPER], "children": 1},
        "window_size": 1,
    },
    "executors": {
        "sha": {"binary_path": "sha256sum", "max_executors": 2},
        "zip": {"binary_path": "gzip", "max_executors": 1},
        "sh": {"max_executors": 1, "ok_exit_codes": [0, 1]},
    },
}


def start(scene: Scene, *values: str) -> Worker:
    """A worker that has finished the values."""
    produce(scene.bootstrap, scene.source, list(values))
    worker = scene.start("contract", CONFIG)
    worker.until_running()
    return worker


def test_n6_several_programs_one_of_them_warm_run_in_one_handler(scene: Scene) -> None:
    """Text, exit codes and bytes come back as they were; nothing is warned of, and the metrics tell them apart."""
    worker = start(scene, "ada", "bob")
    worker.until(lambda: len(read_all(scene.bootstrap, scene.out)) >= 8, "all results are there")
    found = sorted(
        ((message.key() or b"").decode(), message.value() or b"") for message in read_all(scene.bootstrap, scene.out)
    )
    by_key = {key: [value for other, value in found if other == key] for key, _ in found}
    assert by_key[":0"] == [b"ADA", b"BOB"]
    assert sorted(by_key["sha:0"]) == sorted(
        f"{hashlib.sha256(name).hexdigest()}  -\n".encode() for name in (b"ada", b"bob")
    )
    assert [gzip.decompress(value) for value in by_key["zip:0"]] == [b"ada", b"bob"]
    assert by_key["sh:1"] == [Path(PIPELINES / "contract.py").read_bytes()] * 2
    assert 'drakkar_executor_tasks_total{status="completed"} 2.0' in worker.metrics()
    for name, slots in (("sha", 2), ("zip", 1), ("sh", 1)):
        assert f'drakkar_executor_tasks_total{{executor="{name}",status="completed"}} 2.0' in worker.metrics()
        assert f'drakkar_executor_pool_max{{executor="{name}"}} {slots}.0' in worker.metrics()
    assert worker.terminate() == 0, worker.stderr
    assert '"level":"warning"' not in worker.stderr.replace(" ", "")


def test_f1_a_wrong_task_is_one_line_and_the_partition_goes_on(scene: Scene) -> None:
    """In the log, and a dead letter for each; offsets are committed past both."""
    worker = start(scene, "wrong", "nobody", "ada")
    scene.until_finished()
    line = "message.task(args"
    source = (PIPELINES / "contract.py").read_text().splitlines()
    number = next(index for index, text in enumerate(source, start=1) if line in text and "3]" in text)
    (failed,) = worker.lines("handler_hook_failed")
    assert f"contract.py:{number}: task " in failed["error"]
    assert failed["error"].endswith("args[1] is int 3: write str(3)")
    assert "exception" not in failed
    (unknown,) = worker.lines("executor_task_failed")
    assert unknown["error"].endswith(
        "executor is 'nobody', which is not configured: write one of default, sh, sha, zip"
    )
    assert unknown["executor_name"] == "nobody"
    assert len(read_all(scene.bootstrap, scene.dlq)) == 2
    assert worker.terminate() == 0, worker.stderr
