"""The recorder beside a running process: a bus, its thread, and ends of every kind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.hooks import HookRan
from drakkar_flow.observe.events.recorder import RecorderChanged, RecorderFailed
from drakkar_flow.observe.events.source import RecordsConsumed
from drakkar_flow.observe.events.tasks import LongTaskRan, TaskAttempts
from drakkar_flow.recorder.export import exported
from drakkar_flow.recorder.formats import ExportFormat
from drakkar_flow.recorder.recorder import Recorder
from drakkar_flow.recorder.settings import RecorderSettings
from drakkar_flow.recorder.verify import faults_of
from support.recorder import Noted, consumed, failed, patient, sealed
from support.until import until
from support.worker import ROOT


class Scene:
    """A recorder on a bus."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.root, self.bus = root, Bus()
        self.noted = Noted(self.bus)
        self.recorder = Recorder(RecorderSettings("w-1", root, **settings))
        self.recorder.listen(self.bus)

    def close(self) -> None:
        self.recorder.close(30)


def test_what_was_emitted_is_recorded_at_the_close(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "rec")

    def emit(partition: int) -> None:
        for number in range(200):
            scene.bus.emit(consumed(number, number, partition))

    threads = [threading.Thread(target=emit, args=(partition,)) for partition in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    scene.close()
    assert list(faults_of(sealed(scene.root)[0])) == []
    with patient(scene.root) as recording:
        counts = {name: sum(point.n for point in points) for name, points in recording.ticks(kinds=["read"]).rows}
        assert counts == {("read", f"in:{partition}"): 200 for partition in range(4)}


def test_a_live_recording_is_read_beside_its_writer(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "rec")
    scene.bus.emit(consumed(0, 9))
    scene.bus.emit(failed("t-1", 4))
    with patient(scene.root) as recording:
        until(lambda: recording.record("in", 0, 4).events, what="the failure in the live file")
        (file,) = recording.files()
        assert file.is_live
        scene.bus.emit(failed("t-2", 5))
        until(lambda: len(recording.failures().rows) == 2, what="the second failure")
    scene.close()


def test_a_refused_directory_costs_one_line_and_events_cost_nothing_any_more(tmp_path: Path) -> None:
    (tmp_path / "rec").mkdir()
    (tmp_path / "rec").chmod(0o777)
    scene = Scene(tmp_path / "rec")
    until(lambda: scene.noted.states, what="the refusal")
    until(lambda: not scene.bus.hears(RecordsConsumed), what="the end of the subscriptions")
    scene.bus.emit(consumed(0, 9))
    scene.close()
    (event,) = scene.noted.events
    assert isinstance(event, RecorderChanged)
    assert event.reason.endswith("others may write to it: chmod go-w it, or set debug.db_dir")


def test_without_a_home_directory_nothing_is_recorded_and_the_line_names_the_key() -> None:
    bus = Bus()
    noted = Noted(bus)
    recorder = Recorder(RecorderSettings("w-1", environ={}))
    recorder.listen(bus)
    recorder.close(30)
    assert [event.reason for event in noted.events] == ["there is no home directory for recordings: set debug.db_dir"]


def test_a_home_directory_that_is_unknown_costs_one_line_and_never_the_start() -> None:
    bus = Bus()
    noted = Noted(bus)
    recorder = Recorder(RecorderSettings("w-1", Path("~no-such-user/rec")))
    recorder.listen(bus)
    recorder.close(30)
    (event,) = noted.events
    assert event.reason == "can't record to ~no-such-user/rec: there is no home directory: set debug.db_dir"


def test_a_host_without_threads_costs_the_recording_and_never_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    scene = Scene(tmp_path / "rec")
    assert [event.reason for event in scene.noted.events] == ["can't start new thread"]
    assert not scene.bus.hears(RecordsConsumed)
    scene.close()


def test_attempts_and_long_tasks_are_only_made_while_a_recorder_listens(tmp_path: Path) -> None:
    assert not Bus().hears(TaskAttempts)
    scene = Scene(tmp_path / "rec")
    assert scene.bus.hears(TaskAttempts)
    assert scene.bus.hears(LongTaskRan)
    scene.close()


def test_a_full_buffer_drops_details_first_and_counts_them(tmp_path: Path) -> None:
    """The disk is never reached: the thread waits in its first file until the buffer has been filled."""
    entered, go_on = threading.Event(), threading.Event()

    def gauges() -> dict[tuple[str, str], float]:
        entered.set()
        go_on.wait(60)
        return {}

    scene = Scene(tmp_path / "rec", max_buffer=100, gauges=gauges, gauge_s=0.0)
    assert entered.wait(60)
    for number in range(60):
        scene.bus.emit(failed(f"t-{number}", number, stdin="{}"))
    for number in range(100):
        scene.bus.emit(consumed(number, number))
    go_on.set()
    scene.close()
    assert (scene.noted.dropped["outputs"], scene.noted.dropped["events"]) == (35, 85)
    with patient(scene.root) as recording:
        assert sum(fault.count for fault in recording.faults().rows) == 60
        assert sum(point.n for _, points in recording.ticks(kinds=["read"]).rows for point in points) == 15


def test_an_event_that_can_not_be_folded_costs_no_others(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "rec")
    scene.bus.emit(HookRan("arrange", "not a number"))  # type: ignore[arg-type]
    scene.bus.emit(consumed(0, 9))
    scene.close()
    assert [event.reason.partition(":")[0] for event in scene.noted.events if isinstance(event, RecorderFailed)] == [
        "HookRan"
    ]
    with patient(scene.root) as recording:
        assert recording.record("in", 0, 5).spans


# --- kill -9 --------------------------------------------------------------------------------------

ENDLESS = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.tasks import TaskAttempts
from drakkar_flow.recorder.export import exported
from drakkar_flow.recorder.formats import ExportFormat
from drakkar_flow.recorder.recorder import Recorder
from drakkar_flow.recorder.settings import RecorderSettings
from support.recorder import attempt, consumed, failed

bus = Bus()
Recorder(RecorderSettings("w-1", Path(sys.argv[1]), rotate_size=400_000)).listen(bus)
number = 0
while True:
    bus.emit(consumed(number * 10, number * 10 + 9))
    bus.emit(TaskAttempts(tuple(attempt(f"t-{number}-{n}", number * 10 + n) for n in range(10))))
    if number % 50 == 0:
        bus.emit(failed(f"t-{number}", number * 10))
    number += 1
    time.sleep(0.0005)
"""


@pytest.mark.parametrize("seed", range(6))
def test_after_kill_9_everything_that_was_readable_is_there_and_files_are_sound(tmp_path: Path, seed: int) -> None:
    """Whatever a reader has seen stays; a rotation may be under way when the kill comes."""
    script, root = tmp_path / "endless.py", tmp_path / "rec"
    script.write_text(ENDLESS)
    paths = [str(ROOT / "src"), str(ROOT / "tests")]
    worker = subprocess.Popen([sys.executable, script, root, *paths])
    try:
        wanted = random.Random(seed).randrange(200, 6_000)
        seen = 0
        with patient(root) as recording:

            def far_enough() -> bool:
                nonlocal seen
                spans = exported(recording.files(), ExportFormat.JSONL, "spans")
                seen = max([seen, *(json.loads(line)["last"] + 1 for line in spans)])
                return bool(seen >= wanted)

            until(far_enough, timeout_s=90, what="rows of the worker")
    finally:
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    with patient(root) as dead:  # as readable as a live one
        assert dead.record("in", 0, seen // 10 * 10 - 5).spans
    again = Scene(root)
    again.close()
    for path in sealed(root):
        assert list(faults_of(path)) == []
    with patient(root) as recording:
        assert "unclean" in {file.side.ended for file in recording.files()}
        points = dict(recording.ticks(kinds=["read"]).rows)[("read", "in:0")]
        total = sum(point.n for point in points)
        assert total >= seen
        assert all(recording.record("in", 0, offset).spans for offset in range(0, seen, max(1, seen // 50)))
