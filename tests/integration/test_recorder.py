"""The recorder beside real workers: three of them, failures, a kill, and what their files say afterwards."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Producer

from drakkar_flow.recorder.files import Budget
from drakkar_flow.recorder.recording import Recording
from drakkar_flow.recorder.verify import faults_of
from support.kafka_io import end_offsets, produce
from support.recorder import patient
from support.scene import Scene
from support.until import until

pytestmark = pytest.mark.integration

COUNT = 120
PROGRAM = """\
#!/bin/sh
read number
case $number in
  *7) echo "no luck with $number in /tmp/$$" >&2; exit 3 ;;
esac
echo "$number"
"""


def program(directory: Path) -> str:
    """A program that fails for each tenth number."""
    path = directory / "program"
    path.write_text(PROGRAM)
    path.chmod(0o755)
    return str(path)


def settings(directory: Path) -> dict[str, dict[str, object]]:
    """A worker with a recorder, whose failed tasks become dead letters."""
    return {
        "executor": {"binary_path": program(directory), "max_retries": 0},
        # A worker that is killed may lose what the recorder has not written: nothing of it is committed yet.
        "runtime": {"on_task_error": "dlq", "commit_interval_s": 3.0},
        "debug": {"enabled": True, "db_dir": str(directory / "rec")},
        "logging": {"format": "json"},
    }


@pytest.mark.timeout(240)
def test_every_record_has_a_story_whoever_had_it(scene: Scene, tmp_path: Path) -> None:
    """One of three workers is killed on the way; the command finds everything in the files of all."""
    workers = [scene.start("children", settings(tmp_path), {"WORKER_ID": f"w-{number}"}) for number in range(3)]
    for worker in workers:
        worker.until_running()
    scene.fill(COUNT // 2)
    until(lambda: len(scene.delivered()) >= COUNT // 4, 90, "some deliveries")
    workers[0].kill()
    produce(scene.bootstrap, scene.source, map(str, range(COUNT // 2, COUNT)))
    scene.until_finished(120)
    assert [worker.terminate() for worker in workers[1:]] == [0, 0]
    root = tmp_path / "rec"
    with patient(root) as recording:
        failed = 0
        for partition, end in end_offsets(scene.bootstrap, scene.source).items():
            for offset in range(end):
                story = recording.record(scene.source, partition, offset)
                assert story.spans, f"{partition}:{offset} is not located"
                assert f"{scene.source}:{partition}:{offset}" in {task.task_id for task in story.tasks}
                statuses = Counter(task.status for task in story.tasks)
                kinds = {event.kind for event in story.events}
                assert bool(statuses["failed"]) == ("task_failed" in kinds)
                failed += bool(statuses["failed"])
                if not any(span.passed_us is not None for span in story.spans):
                    # The killed worker finished it behind an unfinished one: the commit has it.
                    assert "w-0" in {span.worker for span in story.spans}
        assert failed == COUNT // 10
        (fault,) = [fault for fault in recording.faults().rows if fault.kind == "task"]
        assert (fault.what, fault.stage) == ("exit 3", "program")
        assert fault.count >= COUNT // 10
        assert {file.side.worker for file in recording.files()} == {"w-0", "w-1", "w-2"}
        (some, *_) = [event for event in recording.failures(limit=1000).rows if event.kind == "task_failed"]
        assert {output.stream for output in recording.outputs(str(some.task_id)).rows} == {"stdin", "stderr"}
        states = [event.detail["state"] for event in recording.events(kinds=["state_changed"]).rows]
        assert {"running", "draining", "stopped"} <= set(states)
        paths = [file.path for file in recording.files()]
    assert [fault for path in paths for fault in faults_of(path)] == []


@pytest.mark.timeout(120)
def test_a_refused_directory_is_one_line_and_the_flow_runs(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "rec").mkdir()
    (tmp_path / "rec").chmod(0o777)
    worker = scene.start("children", settings(tmp_path))
    worker.until_running()
    scene.fill(10)
    scene.until_finished(60)
    assert worker.metric("drakkar_recorder_state") == 0
    assert worker.terminate() == 0
    (line,) = worker.lines("recorder_off")
    assert line["reason"].endswith("others may write to it: chmod go-w it, or set debug.db_dir")


@pytest.mark.timeout(120)
def test_persistent_children_and_headers_are_recorded(scene: Scene, tmp_path: Path) -> None:
    """Tasks of long-lived children have their child and its pid; a record with the header is traced."""
    persistent = {"protocol": "lines", "args": [], "children": 2}
    given = settings(tmp_path) | {"executor": {"binary_path": "cat", "mode": "persistent", "persistent": persistent}}
    worker = scene.start("children", given, {"WORKER_ID": "w-1"})
    worker.until_running()
    producer = Producer({"bootstrap.servers": scene.bootstrap})
    producer.produce(scene.source, b"1", headers=[("drakkar-trace", b"1")])
    assert producer.flush(60) == 0
    scene.until_finished(60)
    assert worker.terminate() == 0
    with Recording(tmp_path / "rec", budget_s=60) as recording:
        (task,) = recording.tasks().rows
        assert task.slot in (0, 1, 2)
        assert task.pid > 0
        topic, _, partition = task.topic_partition.rpartition(":")
        story = recording.record(topic, int(partition), task.offset)
        assert [trace.step for trace in story.traces] == ["read", "task", "finished"]
        config = recording.files()[0].rows("SELECT value FROM meta WHERE name = 'config'", (), Budget(60))[0][0][0]
        assert json.loads(config)["executor"]["mode"] == "persistent"
