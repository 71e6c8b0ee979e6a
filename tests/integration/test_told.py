"""What a person finds afterwards: every line about a record says which, and its letter says enough to do it again."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Message

from support.kafka_io import headers_of, produce, read_all
from support.scene import Scene
from support.worker import ROOT, Worker

pytestmark = pytest.mark.integration

FAILING = "cat >/dev/null; echo no such pattern >&2; exit 3"
SCRIPTS = ["echo well", FAILING, "echo raise", "echo large"]
SETTINGS = {
    "executor": {"binary_path": "sh", "max_retries": 1, "retry": {"exit_codes": [3], "initial_s": 0.01}},
}


@pytest.fixture
def worker(scene: Scene) -> Worker:
    """A worker that has met each kind of trouble, in partition 2, and ended."""
    worker = scene.start("telling", SETTINGS)
    produce(scene.bootstrap, scene.source, SCRIPTS, keys=[f"k{number}" for number in range(4)], partition=2)
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    return worker


def _about(worker: Worker, topic: str, offset: int) -> Iterator[dict[str, Any]]:
    """The lines about one record."""
    for text in worker.stderr.splitlines():
        line = json.loads(text) if text.startswith("{") else {}
        places = [f"{line.get('topic')}:{line.get('partition')}:{line.get('offset')}", *line.get("records", [])]
        if f"{topic}:2:{offset}" in places:
            yield line


def _letters(scene: Scene) -> dict[int, tuple[Message, dict[str, bytes]]]:
    """The dead letters with their headers, by the offset they are about."""
    found = [(message, headers_of(message)) for message in read_all(scene.bootstrap, scene.dlq)]
    return {int(headers["__connect.errors.offset"]): (message, headers) for message, headers in found}


def test_every_line_about_a_record_names_it_and_its_task(scene: Scene, worker: Worker) -> None:
    """From the first failure to the dead letter, whatever went wrong; the task's environment is not told."""
    told = {offset: [line["event"] for line in _about(worker, scene.source, offset)] for offset in range(4)}
    assert told[0] == []
    assert told[1] == [
        "executor_task_failed",
        "executor_task_retried",
        "executor_task_failed",
        "max_retries_exceeded",
        "records_failed",
        "dlq_message_sent",
    ]
    assert told[2] == ["handler_hook_failed", "records_failed", "dlq_message_sent"]
    assert told[3] == ["sink_delivery_failed", "records_failed", "dlq_message_sent"]
    for offset in (1, 2, 3):
        for line in _about(worker, scene.source, offset):
            assert f"script-{offset}" in [line["task_id"], *line.get("task_ids", [])], line
    assert "hunter2" not in worker.stderr
    failed, again = worker.lines("executor_task_failed")
    assert (failed["attempt"], again["attempt"], failed["key"], failed["exit_code"]) == (1, 2, "k1", 3)
    assert (failed["executor"], failed["stderr"]) == ("oneshot", "no such pattern\n")
    assert failed["program"].endswith("/sh")
    (raised,) = worker.lines("handler_hook_failed")
    assert "in on_task_complete" in raised["exception"]


def test_the_letter_of_a_failed_task_is_enough_to_run_it_again(scene: Scene, worker: Worker) -> None:
    """What a real broker holds: the record as it was, and what was run, with its stdin, byte for byte."""
    message, headers = _letters(scene)[1]
    assert (message.key(), message.value()) == (b"k1", FAILING.encode())
    assert headers["drakkar.task_id"] == b"script-1"
    task = json.loads(headers["drakkar.task"])
    assert (task["exit_code"], task["attempt"], task["stderr"]) == (3, 2, "no such pattern\n")
    assert (task["executor"], task["program"]) == ("oneshot", task["command"][0])
    assert "hunter2" not in headers["drakkar.task"].decode()
    stdin = base64.b64decode(task["stdin"]["base64"])
    assert stdin == b"\x00\xff"
    again = subprocess.run(task["command"], input=stdin, capture_output=True, check=False, timeout=60)
    assert (again.returncode, again.stderr) == (3, b"no such pattern\n")
    for offset, stage in ((2, b"collect-on_task_complete.on_task_complete"), (3, b"sink-kafka-out")):
        _, others = _letters(scene)[offset]
        assert (others["drakkar.task_id"], others["__connect.errors.stage"]) == (f"script-{offset}".encode(), stage)


def _replay(scene: Scene, *options: str) -> subprocess.CompletedProcess[str]:
    dlq = [sys.executable, "-m", "drakkar_flow.cli.main", "dlq"]
    command = [*dlq, "replay", "--config", str(scene.config()), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=90, cwd=ROOT)


@pytest.mark.usefixtures("worker")
def test_n7_dead_letters_are_replayed_with_key_and_value_once(scene: Scene) -> None:
    """Also those whose letter is not the record itself; a second replay finds nothing left to do."""
    looked = _replay(scene, "--dry-run", "--reason", "script-3")
    assert (looked.returncode, looked.stdout.count("would replay")) == (0, 1), looked.stderr
    replayed = _replay(scene)
    assert (replayed.returncode, replayed.stdout[:18]) == (0, "3 records replayed"), replayed.stderr
    sent = [(message.key(), message.value()) for message in read_all(scene.bootstrap, scene.source)]
    first = [(f"k{number}".encode(), script.encode()) for number, script in enumerate(SCRIPTS)]
    assert sorted(sent) == sorted(first + first[1:])
    assert "0 records replayed, 0 failed, 3 replayed before" in _replay(scene).stdout
